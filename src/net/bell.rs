//! A bell: an eventfd that a worker waits for while it sleeps in the executor.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::ring_wakeup::{Eventfd, EventfdReader};

/// An eventfd that a task of the executor can wait for, again and again.
pub(super) struct Bell {
    reader: Rc<EventfdReader>,
    /// The outstanding read. It stays outstanding after the sleep it was made for, because cancelling costs more.
    read: Option<Pin<Box<dyn Future<Output = io::Result<()>>>>>,
}

impl Bell {
    /// A bell for `eventfd`. It may be made inside a glommio executor only.
    ///
    /// # Errors
    ///
    /// When the process has no file descriptors left.
    pub fn new(eventfd: &Eventfd) -> io::Result<Bell> {
        Ok(Bell { reader: Rc::new(EventfdReader::new(eventfd)?), read: None })
    }

    /// Ready when the eventfd has been raised. The eventfd is lowered then.
    ///
    /// # Errors
    ///
    /// Errors of a read through the executor's ring.
    pub fn poll_raised(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let reader = &self.reader;
        let read = self.read.get_or_insert_with(|| {
            let reader = Rc::clone(reader);
            Box::pin(async move { reader.raised().await })
        });
        let raised = std::task::ready!(read.as_mut().poll(cx));
        self.read = None;
        Poll::Ready(raised)
    }

    /// Closes the bell's descriptor of the eventfd.
    ///
    /// # Errors
    ///
    /// Errors of closing a file.
    pub async fn close(self) -> io::Result<()> {
        drop(self.read);
        match Rc::into_inner(self.reader) {
            Some(reader) => reader.close().await,
            None => Ok(()),
        }
    }
}
