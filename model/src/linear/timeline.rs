//! Calls and returns of a history in the order of time, as a linked list from which placed operations are removed. The
//! calls before its first return are the operations that may come next.

use super::search::Rules;

/// The list. Links are indices; index 0 is the anchor, before the first entry and after the last.
pub(super) struct Timeline {
    next: Vec<usize>,
    previous: Vec<usize>,
    events: Vec<Event>,
    calls: Vec<usize>,
    returns: Vec<Option<usize>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    Anchor,
    Call(usize),
    Return,
}

/// When an operation was invoked, and when it returned (`u64::MAX` if unknown); `None` if it need not happen.
pub(super) type Span = (u64, Option<u64>);

impl Timeline {
    /// The list of all operations.
    pub(super) fn new(spans: &[Span], rules: Rules) -> Self {
        let mut order = Vec::with_capacity(2 * spans.len());
        for (operation, (invoked, until)) in spans.iter().enumerate() {
            assert!(
                until.is_none_or(|until| *invoked <= until),
                "operation {operation} returned before it was invoked"
            );
            // A call stands before the returns of the same time: operations that touch overlap.
            order.push((*invoked, !rules.touching_overlap, operation));
            order.extend(until.map(|until| (until, rules.touching_overlap, operation)));
        }
        order.sort_unstable();
        let mut list = Self {
            next: (1..=order.len()).chain([0]).collect(),
            previous: [order.len()].into_iter().chain(0..order.len()).collect(),
            events: vec![Event::Anchor],
            calls: vec![0; spans.len()],
            returns: vec![None; spans.len()],
        };
        for (_, second, operation) in order {
            let index = list.events.len();
            if second == rules.touching_overlap {
                list.returns[operation] = Some(index);
                list.events.push(Event::Return);
            } else {
                list.calls[operation] = index;
                list.events.push(Event::Call(operation));
            }
        }
        list
    }

    /// Operations that were invoked before the first return in the list, in the order of their calls.
    pub(super) fn candidates(&self, rules: Rules) -> Vec<usize> {
        let mut found = Vec::new();
        let mut index = self.next[0];
        loop {
            match self.events[index] {
                Event::Anchor => return found,
                Event::Call(operation) => found.push(operation),
                Event::Return if rules.real_time => return found,
                Event::Return => {}
            }
            index = self.next[index];
        }
    }

    /// Takes an operation out.
    pub(super) fn lift(&mut self, operation: usize) {
        for index in [Some(self.calls[operation]), self.returns[operation]]
            .into_iter()
            .flatten()
        {
            let (previous, next) = (self.previous[index], self.next[index]);
            self.next[previous] = next;
            self.previous[next] = previous;
        }
    }

    /// Puts back the operation that was taken out last.
    pub(super) fn put_back(&mut self, operation: usize) {
        for index in [self.returns[operation], Some(self.calls[operation])]
            .into_iter()
            .flatten()
        {
            let (previous, next) = (self.previous[index], self.next[index]);
            self.next[previous] = index;
            self.previous[next] = index;
        }
    }
}
