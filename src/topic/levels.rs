//! The shape both trees share: levels below levels, found by number.
//!
//! Owns the nodes and the edges between them, not what they mean: an owner hangs marks of type `M` on nodes and decides
//! when a node is no longer needed. All nodes live in one vector and all edges in one hash table, so a level costs no
//! allocation of its own (its text up to [`INLINE_LABEL`] bytes included), wide levels need no other shape than narrow
//! ones, and growing never reads the nodes. Siblings are linked, so that the one that is left is found.

use std::cell::OnceCell;

use ahash::RandomState;
use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::memory::{allocated, allocated_for, allocated_for_table};

/// The node above all first levels. It is always there.
pub(super) const ROOT: u32 = 0;
/// No node; owners use it for "nothing" in their marks as well.
pub(super) const NONE: u32 = u32::MAX;
/// The parent of a node that is not in use.
const FREE: u32 = u32::MAX - 1;

/// Longer labels are on the heap.
const INLINE_LABEL: usize = 16;
/// With fewer nodes than this, it is not worth while to give memory back.
const WORTH_COMPACTING: usize = 1024;

/// A tree of levels with marks `M`. One per tree.
pub(super) struct Levels<M> {
    nodes: Vec<Node<M>>,
    /// The first node that is not in use; linked by `next`.
    free: u32,
    live: usize,
    edges: HashTable<Edge>,
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
        let mut levels =
            Levels { nodes: Vec::new(), free: NONE, live: 0, edges: HashTable::new(), long_labels: 0, hasher };
        levels.allocate(&[], NONE);
        levels
    }

    /// The child of `parent` with the label `level`.
    #[inline]
    pub(super) fn child(&self, parent: u32, level: &Level<'_>) -> Option<u32> {
        let above = &self.nodes[parent as usize];
        match above.children {
            0 => None,
            1 => (*self.nodes[above.first_child as usize].label == *level.text).then_some(above.first_child),
            _ => self.look_up(parent, level),
        }
    }

    fn look_up(&self, parent: u32, level: &Level<'_>) -> Option<u32> {
        let hash = Edge::hash(parent, level.hash(&self.hasher));
        let is_it = |edge: &Edge| {
            edge.hash == hash && {
                let node = &self.nodes[edge.child as usize];
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
        let above = &mut self.nodes[parent as usize];
        above.children += 1;
        let sibling = std::mem::replace(&mut above.first_child, child);
        self.nodes[child as usize].next = sibling;
        if sibling != NONE {
            self.nodes[sibling as usize].previous = child;
        }
        self.link(Edge { hash: Edge::hash(parent, level.hash(&self.hasher)), child });
        child
    }

    /// Removes `node`, which must have no children and not be the root; returns its parent.
    pub(super) fn remove_leaf(&mut self, node: u32) -> u32 {
        let removed = &mut self.nodes[node as usize];
        debug_assert!(node != ROOT && removed.first_child == NONE && removed.parent != FREE);
        let hash = Edge::hash(removed.parent, Level::new(&removed.label).hash(&self.hasher));
        if let Ok(edge) = self.edges.find_entry(Edge::spread(hash), |edge| edge.child == node) {
            edge.remove();
        }
        let (parent, previous, next) = (removed.parent, removed.previous, removed.next);
        self.long_labels -= on_heap(&removed.label);
        removed.label = SmallVec::new();
        removed.marks = M::default();
        removed.parent = FREE;
        removed.previous = NONE;
        removed.next = self.free;
        self.free = node;
        self.live -= 1;

        self.nodes[parent as usize].children -= 1;
        if previous == NONE {
            self.nodes[parent as usize].first_child = next;
        } else {
            self.nodes[previous as usize].next = next;
        }
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        parent
    }

    /// If most nodes are not in use, gives their memory back. Nodes then have other numbers: the answer is the new one by
    /// the old one, for the owner to correct what he kept, [`marks`](Self::all_marks_mut) included.
    pub(super) fn compact(&mut self) -> Option<Vec<u32>> {
        if self.nodes.len() < WORTH_COMPACTING || self.live * 4 > self.nodes.len() {
            return None;
        }
        let mut kept = 0..;
        let moved: Vec<u32> = self
            .nodes
            .iter()
            .map(|node| if node.parent == FREE { NONE } else { kept.next().unwrap_or(NONE) })
            .collect();
        let to = |old: u32| if old == NONE { NONE } else { moved[old as usize] };
        self.nodes.retain(|node| node.parent != FREE);
        self.nodes.shrink_to_fit();
        self.free = NONE;
        for node in &mut self.nodes {
            for number in [&mut node.parent, &mut node.first_child, &mut node.next, &mut node.previous] {
                *number = to(*number);
            }
        }
        self.edges = HashTable::with_capacity(self.nodes.len());
        for child in 1..self.nodes.len() as u32 {
            let node = &self.nodes[child as usize];
            let hash = Edge::hash(node.parent, Level::new(&node.label).hash(&self.hasher));
            self.link(Edge { hash, child });
        }
        Some(moved)
    }

    fn link(&mut self, edge: Edge) {
        self.edges.insert_unique(Edge::spread(edge.hash), edge, |edge| Edge::spread(edge.hash));
    }

    fn allocate(&mut self, label: &[u8], parent: u32) -> u32 {
        self.live += 1;
        self.long_labels += on_heap(label);
        let node = Node {
            label: SmallVec::from_slice(label),
            parent,
            first_child: NONE,
            children: 0,
            next: NONE,
            previous: NONE,
            marks: M::default(),
        };
        if self.free == NONE {
            let number = self.nodes.len() as u32;
            assert!(number < FREE, "a tree has less than 2^32 levels in all");
            self.nodes.push(node);
            number
        } else {
            let number = self.free;
            self.free = std::mem::replace(&mut self.nodes[number as usize], node).next;
            number
        }
    }
}

impl<M> Levels<M> {
    /// What the owner hung on `node`.
    pub(super) fn marks(&self, node: u32) -> &M {
        &self.nodes[node as usize].marks
    }

    /// The memory it takes, in bytes.
    pub(super) fn allocated(&self) -> usize {
        allocated_for::<Node<M>>(self.nodes.capacity())
            + allocated_for_table(self.edges.capacity(), size_of::<Edge>())
            + self.long_labels
    }

    /// As [`marks`](Self::marks), to change it.
    pub(super) fn marks_mut(&mut self, node: u32) -> &mut M {
        &mut self.nodes[node as usize].marks
    }

    /// What the owner hung on any node, those not in use included.
    pub(super) fn all_marks_mut(&mut self) -> impl Iterator<Item = &mut M> {
        self.nodes.iter_mut().map(|node| &mut node.marks)
    }

    /// One of the children of `node`, or [`NONE`].
    pub(super) fn first_child(&self, node: u32) -> u32 {
        self.nodes[node as usize].first_child
    }
}

#[cfg(test)]
impl<M> Levels<M> {
    /// Whether the root has no children.
    pub(super) fn is_bare(&self) -> bool {
        self.live == 1 && self.edges.is_empty()
    }

    /// Room for nodes and for edges.
    pub(super) fn capacity(&self) -> (usize, usize) {
        (self.nodes.capacity(), self.edges.capacity())
    }
}
