//! THREAD (RFC 5256, 3): from messages to trees, and how they are written.
//!
//! Machine: no IO, no clock, no randomness.
//!
//! Invariants: no recursion, however deep a conversation is; work and memory are bounded by the
//! number of messages, whatever they refer to.

use std::collections::HashMap;
use std::fmt::Write as _;

/// A message that is threaded; in the order of the mailbox.
#[derive(Clone, Debug, Default)]
pub struct Threaded {
    /// Sequence number or UID.
    pub number: u32,
    pub sent: i64,
    /// Base subject in the form in which it is compared.
    pub subject: Box<str>,
    /// Its subject says that it is a reply, or forwarded.
    pub is_reply: bool,
    pub id: Option<u64>,
    /// The oldest first.
    pub ancestors: Box<[u64]>,
}

/// Parentheses in parentheses: what is deeper is written side by side.
const MAX_NESTING: usize = 100;

const NONE: u32 = u32::MAX;

/// Messages, and dummies for those that are only referred to.
struct Forest<'a> {
    messages: &'a [Threaded],
    /// By number of node; the first are the messages.
    parent: Vec<u32>,
    /// How many children a node has, while links still change.
    count: Vec<u32>,
    children: Vec<Vec<u32>>,
    /// Steps up that may still be taken to find loops.
    steps: usize,
}

impl<'a> Forest<'a> {
    fn new(messages: &'a [Threaded]) -> Self {
        Self {
            parent: vec![NONE; messages.len()],
            count: vec![0; messages.len()],
            children: Vec::new(),
            steps: 64 * messages.len() + 1_000_000,
            messages,
        }
    }

    fn message(&self, node: u32) -> Option<&'a Threaded> {
        self.messages.get(node as usize)
    }

    fn dummy(&mut self) -> u32 {
        self.parent.push(NONE);
        self.count.push(0);
        // There are fewer, see `relate`.
        u32::try_from(self.parent.len() - 1).unwrap_or(NONE)
    }

    fn link(&mut self, parent: u32, child: u32) {
        self.parent[child as usize] = parent;
        self.count[parent as usize] += 1;
    }

    fn unlink(&mut self, child: u32) {
        let parent = std::mem::replace(&mut self.parent[child as usize], NONE);
        if let Some(count) = self.count.get_mut(parent as usize) {
            *count -= 1;
        }
    }

    /// Links are as they stay: from now on children are what counts. Gives who has no parent.
    fn settle(&mut self) -> Vec<u32> {
        self.children = vec![Vec::new(); self.parent.len()];
        let mut tops = Vec::new();
        for (node, parent) in (0..).zip(&self.parent) {
            match self.children.get_mut(*parent as usize) {
                Some(siblings) => siblings.push(node),
                None => tops.push(node),
            }
        }
        tops
    }

    /// Whether `node` is below `above` or the same, or that is too far to tell.
    fn descends(&mut self, node: u32, above: u32) -> bool {
        if node == above {
            return true;
        }
        if self.count[above as usize] == 0 {
            return false;
        }
        let mut at = node;
        while at != NONE {
            if at == above || self.steps == 0 {
                return true;
            }
            self.steps -= 1;
            at = self.parent[at as usize];
        }
        false
    }

    /// Steps 1 of REFERENCES.
    fn relate(&mut self) {
        let most = self.messages.len() * 5 + 65_536;
        let mut nodes: HashMap<u64, u32> = HashMap::new();
        for (n, message) in (0..).zip(self.messages) {
            if let Some(id) = message.id {
                // Of two with the same ID, the second has none.
                nodes.entry(id).or_insert(n);
            }
        }
        for (n, message) in (0..).zip(self.messages) {
            let mut before = NONE;
            // Where strangers refer to more than there could be, the parent is enough.
            let enough = self.parent.len() > most;
            let skipped = if enough {
                message.ancestors.len().saturating_sub(1)
            } else {
                0
            };
            for id in message.ancestors.iter().skip(skipped) {
                let node = match nodes.get(id) {
                    Some(node) => *node,
                    None => {
                        let node = self.dummy();
                        nodes.insert(*id, node);
                        node
                    }
                };
                if before != NONE
                    && self.parent[node as usize] == NONE
                    && !self.descends(before, node)
                {
                    self.link(before, node);
                }
                before = node;
            }
            self.unlink(n);
            if before != NONE && !self.descends(before, n) {
                self.link(before, n);
            }
        }
    }

    /// All nodes below the given ones, and these, parents first.
    fn below(&self, roots: &[u32]) -> Vec<u32> {
        let mut order = Vec::new();
        let mut stack = roots.to_vec();
        while let Some(node) = stack.pop() {
            order.push(node);
            stack.extend(&self.children[node as usize]);
        }
        order
    }

    /// Steps 2 and 3: the children of the root, without dummies that hold nothing together.
    fn prune(&mut self) -> Vec<u32> {
        let tops = self.settle();
        for node in self.below(&tops).into_iter().rev() {
            let children = std::mem::take(&mut self.children[node as usize]);
            let mut kept: Vec<u32> = Vec::new();
            for child in children {
                if self.message(child).is_some() {
                    kept.push(child);
                    continue;
                }
                let mut promoted = std::mem::take(&mut self.children[child as usize]);
                // Order comes later: what is shorter is moved.
                if promoted.len() > kept.len() {
                    std::mem::swap(&mut promoted, &mut kept);
                }
                kept.extend(promoted);
            }
            self.children[node as usize] = kept;
        }
        let mut roots = Vec::new();
        for node in tops {
            if self.message(node).is_some() {
                roots.push(node);
                continue;
            }
            match *self.children[node as usize] {
                [] => {}
                [only] => roots.push(only),
                _ => roots.push(node),
            }
        }
        roots
    }

    /// By which siblings are sorted: of a dummy, its first child counts.
    fn date(&self, node: u32) -> (i64, u32) {
        let of = |n: u32| self.message(n).map(|message| (message.sent, n));
        let first = || self.children[node as usize].first().copied().and_then(of);
        of(node).or_else(first).unwrap_or_default()
    }

    fn sort(&self, nodes: &mut [u32]) {
        nodes.sort_by_cached_key(|node| self.date(*node));
    }

    fn sort_children(&mut self, node: u32) {
        let mut children = std::mem::take(&mut self.children[node as usize]);
        self.sort(&mut children);
        self.children[node as usize] = children;
    }

    /// Step 4.
    fn sort_roots(&mut self, roots: &mut [u32]) {
        for node in roots.iter() {
            if self.message(*node).is_none() {
                self.sort_children(*node);
            }
        }
        self.sort(roots);
    }

    /// The message that speaks for a thread.
    fn speaker(&self, node: u32) -> Option<&'a Threaded> {
        let first = || self.children[node as usize].first();
        self.message(node)
            .or_else(|| first().and_then(|child| self.message(*child)))
    }

    fn subject(&self, node: u32) -> &'a str {
        self.speaker(node).map_or("", |message| &message.subject)
    }

    /// Step 5.
    fn merge_subjects(&mut self, roots: Vec<u32>) -> Vec<u32> {
        let is_reply = |forest: &Self, n| forest.message(n).is_some_and(|m| m.is_reply);
        let mut table: HashMap<&str, u32> = HashMap::new();
        for &node in &roots {
            let subject = self.subject(node);
            if subject.is_empty() {
                continue;
            }
            let place = table.entry(subject).or_insert(node);
            let (dummy, first_dummy) =
                (self.message(node).is_none(), self.message(*place).is_none());
            let better = dummy || is_reply(self, *place) && !is_reply(self, node);
            if !first_dummy && better {
                *place = node;
            }
        }
        let mut gone = vec![false; self.parent.len()];
        let mut made = Vec::new();
        for &node in &roots {
            // One that is no child of the root any more, because another was merged with it.
            if gone[node as usize] {
                continue;
            }
            let Some(place) = table
                .get_mut(self.subject(node))
                .filter(|place| **place != node)
            else {
                continue;
            };
            let first = *place;
            gone[node as usize] = true;
            match (self.message(first), self.message(node)) {
                (None, None) => {
                    let children = std::mem::take(&mut self.children[node as usize]);
                    self.children[first as usize].extend(children);
                }
                (None, Some(_)) => self.children[first as usize].push(node),
                (Some(of), Some(message)) if message.is_reply && !of.is_reply => {
                    self.children[first as usize].push(node);
                }
                _ => {
                    let dummy = self.dummy();
                    self.children.push(vec![first, node]);
                    gone[first as usize] = true;
                    gone.push(false);
                    made.push(dummy);
                    *place = dummy;
                }
            }
        }
        let left = roots.into_iter().filter(|n| !gone[*n as usize]);
        left.chain(made).collect()
    }
}

/// The trees of REFERENCES, as THREAD writes them.
pub fn references(messages: &[Threaded]) -> String {
    let mut forest = Forest::new(messages);
    forest.relate();
    let mut roots = forest.prune();
    forest.sort_roots(&mut roots);
    let mut roots = forest.merge_subjects(roots);
    // Step 6: the youngest first.
    for node in forest.below(&roots).into_iter().rev() {
        forest.sort_children(node);
    }
    forest.sort(&mut roots);
    forest.write(&roots)
}

/// ORDEREDSUBJECT, as THREAD writes it.
pub fn ordered_subject(messages: &[Threaded]) -> String {
    let mut order: Vec<u32> = (0..).zip(messages).map(|(n, _)| n).collect();
    let by_date = |n: &u32| (messages[*n as usize].sent, *n);
    order.sort_by_key(by_date);
    let mut forest = Forest::new(messages);
    // The first of each subject is the earliest: so threads are in order as they are met.
    let mut threads: HashMap<&str, u32> = HashMap::new();
    let mut roots = Vec::new();
    for node in order {
        match threads.get(&*messages[node as usize].subject) {
            Some(root) => forest.link(*root, node),
            None => {
                threads.insert(&messages[node as usize].subject, node);
                roots.push(node);
            }
        }
    }
    forest.settle();
    for root in &roots {
        forest.sort_children(*root);
    }
    forest.write(&roots)
}

/// What is still to be written.
enum Part {
    Thread(u32),
    /// The members that follow their parent on the same level.
    Members(u32),
    Close,
}

impl Forest<'_> {
    fn write(&self, roots: &[u32]) -> String {
        let mut out = String::new();
        let mut nesting = 0usize;
        let mut parts: Vec<Part> = roots.iter().rev().map(|n| Part::Thread(*n)).collect();
        while let Some(part) = parts.pop() {
            match part {
                Part::Close => {
                    out.push(')');
                    nesting -= 1;
                }
                Part::Thread(node) => {
                    out.push('(');
                    nesting += 1;
                    parts.push(Part::Close);
                    parts.push(Part::Members(node));
                }
                Part::Members(node) => {
                    let message = self.message(node);
                    if let Some(message) = message {
                        let _ = write!(out, "{}", message.number);
                    }
                    let children = &self.children[node as usize];
                    let blank = if message.is_some() { " " } else { "" };
                    match children.as_slice() {
                        [] => {}
                        [only] => {
                            out.push_str(blank);
                            parts.push(Part::Members(*only));
                        }
                        many if nesting < MAX_NESTING => {
                            out.push_str(blank);
                            parts.extend(many.iter().rev().map(|n| Part::Thread(*n)));
                        }
                        many => {
                            out.push_str(blank);
                            for node in self.below(many) {
                                if let Some(message) = self.message(node) {
                                    let _ = write!(out, "({})", message.number);
                                }
                            }
                        }
                    }
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests;
