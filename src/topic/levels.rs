//! The shape both trees share: levels below levels, found by number.
//!
//! Owns the nodes and the edges between them, not what they mean: an owner hangs marks of type `M` on nodes and decides
//! when a node is no longer needed. All nodes live in one list and all edges in one hash table, so a level costs no
//! allocation of its own (its text up to [`INLINE_LABEL`] bytes included), wide levels need no other shape than narrow
//! ones, and growing never reads the nodes. Siblings are linked, so that the one that is left is found. When most have gone, those
//! in the rear are moved forward one by one, unless they have many children, each of which would have to be visited.

use std::cell::OnceCell;

use ahash::RandomState;
use smallvec::SmallVec;

use crate::memory::allocated;
use crate::tables::{PartedTable, Slots};

/// The node above all first levels. It is always there.
pub(super) const ROOT: u32 = 0;
/// No node; owners use it for "nothing" in their marks as well.
pub(super) const NONE: u32 = u32::MAX;

/// A node with more children than this is not moved.
const MOVED_CHILDREN: u32 = 16;
/// Longer labels are on the heap.
const INLINE_LABEL: usize = 16;

/// A tree of levels with marks `M`. One per tree.
pub(super) struct Levels<M> {
    nodes: Slots<Node<M>>,
    edges: PartedTable<Edge>,
    /// The bytes of labels that are on the heap.
    long_labels: usize,
    hasher: RandomState,
}

/// One per distinct prefix of all that is stored; there may be millions.
struct Node<M> {
    label: SmallVec<[u8; INLINE_LABEL]>,
    parent: u32,
    first_child: u32,
    /// How many children there are: one is looked at, several are looked up.
    children: u32,
    next: u32,
    previous: u32,
    marks: M,
}

impl<M: Default> Default for Node<M> {
    /// One that is not in use.
    fn default() -> Self {
        Node {
            label: SmallVec::new(),
            parent: NONE,
            first_child: NONE,
            children: 0,
            next: NONE,
            previous: NONE,
            marks: M::default(),
        }
    }
}

/// From a parent, by the label of the child, to the child. The hash spares visits to nodes that are not the one.
struct Edge {
    hash: u32,
    child: u32,
}

/// The memory that a label takes beside its node.
fn on_heap(label: &[u8]) -> usize {
    if label.len() > INLINE_LABEL { allocated(label.len()) } else { 0 }
}

impl Edge {
    /// Level hashes are seeded; the same level below distinct parents never collides.
    fn hash(parent: u32, level: u32) -> u32 {
        level ^ parent.wrapping_mul(0x9e37_79b1)
    }

    /// The hash as the table wants it, with its entropy at both ends.
    fn spread(hash: u32) -> u64 {
        u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn spread_own(&self) -> u64 {
        Edge::spread(self.hash)
    }
}

/// One level of a topic name or filter, with its hash if somebody needed it: however often it is looked for, a long level
/// is hashed once.
pub(super) struct Level<'a> {
    pub(super) text: &'a [u8],
    hash: OnceCell<u32>,
}

impl<'a> Level<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Level { text, hash: OnceCell::new() }
    }

    /// The first level of a topic name or filter, and the rest behind it unless it is the last.
    pub(super) fn cut(text: &'a [u8]) -> (Self, Option<&'a [u8]>) {
        match text.iter().position(|&byte| byte == b'/') {
            Some(end) => (Level::new(&text[..end]), Some(&text[end + 1..])),
            None => (Level::new(text), None),
        }
    }

    fn hash(&self, hasher: &RandomState) -> u32 {
        *self.hash.get_or_init(|| hasher.hash_one(self.text) as u32)
    }
}

impl<M: Default> Levels<M> {
    /// The root alone.
    pub(super) fn new(hasher: RandomState) -> Self {
        let mut nodes = Slots::new();
        let root = nodes.insert(Node::default());
        debug_assert_eq!(root, ROOT);
        Levels { nodes, edges: PartedTable::new(), long_labels: 0, hasher }
    }

    /// The child of `parent` with the label `level`.
    #[inline]
    pub(super) fn child(&self, parent: u32, level: &Level<'_>) -> Option<u32> {
        let above = &self.nodes[parent];
        match above.children {
            0 => None,
            1 => (*self.nodes[above.first_child].label == *level.text).then_some(above.first_child),
            _ => self.look_up(parent, level),
        }
    }

    fn look_up(&self, parent: u32, level: &Level<'_>) -> Option<u32> {
        let hash = Edge::hash(parent, level.hash(&self.hasher));
        let is_it = |edge: &Edge| {
            edge.hash == hash && {
                let node = &self.nodes[edge.child];
                node.parent == parent && *node.label == *level.text
            }
        };
        self.edges.find(Edge::spread(hash), is_it).map(|edge| edge.child)
    }

    /// The child of `parent` with the label `level`, made now if there is none.
    pub(super) fn child_or_new(&mut self, parent: u32, level: &Level<'_>) -> u32 {
        if let Some(child) = self.child(parent, level) {
            return child;
        }
        let child = self.allocate(level.text, parent);
        let above = &mut self.nodes[parent];
        above.children += 1;
        let sibling = std::mem::replace(&mut above.first_child, child);
        self.nodes[child].next = sibling;
        if sibling != NONE {
            self.nodes[sibling].previous = child;
        }
        let hash = Edge::hash(parent, level.hash(&self.hasher));
        self.edges.insert_unique(Edge::spread(hash), Edge { hash, child }, Edge::spread_own);
        child
    }

    /// Removes `node`, which must have no children and not be the root; returns its parent.
    pub(super) fn remove_leaf(&mut self, node: u32) -> u32 {
        debug_assert!(node != ROOT);
        self.unlink(node);
        let removed = self.nodes.remove(node);
        debug_assert!(removed.first_child == NONE && removed.parent != NONE);
        let (parent, previous, next) = (removed.parent, removed.previous, removed.next);
        self.long_labels -= on_heap(&removed.label);

        self.nodes[parent].children -= 1;
        if previous == NONE {
            self.nodes[parent].first_child = next;
        } else {
            self.nodes[previous].next = next;
        }
        if next != NONE {
            self.nodes[next].previous = previous;
        }
        parent
    }

    /// If most places for nodes are not used, moves one of those in the rear forward. Gives its old place and its new one, for the owner to
    /// correct what he kept, the marks of its parent included. Memory is given back in time if this is called about as often as nodes are
    /// removed; but a node of very many children stays where it is.
    pub(super) fn bring_forward(&mut self) -> Option<(u32, u32)> {
        let old = self.nodes.straggler()?;
        let node = &self.nodes[old];
        if old == ROOT || node.children > MOVED_CHILDREN {
            return None;
        }
        self.unlink(old);
        let mut child = self.nodes[old].first_child;
        let mut children = SmallVec::<[u32; MOVED_CHILDREN as usize]>::new();
        while child != NONE {
            self.unlink(child);
            children.push(child);
            child = self.nodes[child].next;
        }
        let new = self.nodes.bring_forward(old);
        let Node { parent, next, previous, .. } = self.nodes[new];
        match previous {
            NONE => self.nodes[parent].first_child = new,
            _ => self.nodes[previous].next = new,
        }
        if next != NONE {
            self.nodes[next].previous = new;
        }
        self.link(new);
        for child in children {
            self.nodes[child].parent = new;
            self.link(child);
        }
        Some((old, new))
    }

    /// The parent of `node`.
    pub(super) fn parent(&self, node: u32) -> u32 {
        self.nodes[node].parent
    }

    /// The hash of the edge to `node`.
    fn edge_hash(&self, node: u32) -> u32 {
        let node = &self.nodes[node];
        Edge::hash(node.parent, Level::new(&node.label).hash(&self.hasher))
    }

    fn link(&mut self, child: u32) {
        let hash = self.edge_hash(child);
        self.edges.insert_unique(Edge::spread(hash), Edge { hash, child }, Edge::spread_own);
    }

    fn unlink(&mut self, child: u32) {
        let hash = self.edge_hash(child);
        self.edges.remove(Edge::spread(hash), |edge| edge.child == child, Edge::spread_own);
    }

    fn allocate(&mut self, label: &[u8], parent: u32) -> u32 {
        self.long_labels += on_heap(label);
        self.nodes.insert(Node { label: SmallVec::from_slice(label), parent, ..Node::default() })
    }
}

impl<M> Levels<M> {
    /// What the owner hung on `node`.
    pub(super) fn marks(&self, node: u32) -> &M {
        &self.nodes[node].marks
    }

    /// The memory it takes, in bytes.
    pub(super) fn allocated(&self) -> usize {
        self.nodes.allocated() + self.edges.allocated() + self.long_labels
    }

    /// As [`marks`](Self::marks), to change it.
    pub(super) fn marks_mut(&mut self, node: u32) -> &mut M {
        &mut self.nodes[node].marks
    }

    /// One of the children of `node`, or [`NONE`].
    pub(super) fn first_child(&self, node: u32) -> u32 {
        self.nodes[node].first_child
    }
}

#[cfg(test)]
impl<M> Levels<M> {
    /// Whether the root has no children.
    pub(super) fn is_bare(&self) -> bool {
        self.nodes.len() == 1 && self.edges.is_empty()
    }

    /// The memory of nodes and of edges.
    pub(super) fn parts_allocated(&self) -> (usize, usize) {
        (self.nodes.allocated(), self.edges.allocated())
    }
}
