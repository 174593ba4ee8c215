//! Commands that the actor has put aside. They go back to the mailbox with the incarnation.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::mailbox::{Mailbox, Taken};

pub(crate) struct Stash<C> {
    /// Brought back: before all that is in the mailbox.
    front: VecDeque<C>,
    aside: VecDeque<C>,
    mailbox: Arc<Mailbox<C>>,
}

impl<C> Stash<C> {
    pub(crate) fn new(mailbox: Arc<Mailbox<C>>) -> Self {
        Self { front: VecDeque::new(), aside: VecDeque::new(), mailbox }
    }

    /// Puts a command aside, unless so many are already: then it is given back.
    pub(crate) fn put_aside(&mut self, command: C, room: usize) -> Result<(), C> {
        if self.aside.len() >= room {
            return Err(command);
        }
        self.aside.push_back(command);
        Ok(())
    }

    /// Brings back so many, in front of all others and in their order.
    pub(crate) fn bring_back(&mut self, count: usize) {
        let count = count.min(self.aside.len());
        // Not before those that were brought back earlier.
        self.front.extend(self.aside.drain(..count));
        if self.aside.is_empty() {
            self.aside = VecDeque::new();
        }
    }

    /// Brings commands that the actor sends itself, in front of those in the mailbox.
    pub(crate) fn bring(&mut self, commands: Vec<C>) {
        self.front.extend(commands);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.front.is_empty() && self.aside.is_empty()
    }

    /// The next command.
    pub(crate) fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Taken<C>> {
        match self.front.pop_front() {
            Some(command) => Poll::Ready(Taken::Command(command)),
            None => self.mailbox.poll_take(cx),
        }
    }
}

impl<C> Drop for Stash<C> {
    fn drop(&mut self) {
        let aside = std::mem::take(&mut self.aside);
        let front = std::mem::take(&mut self.front);
        if !aside.is_empty() || !front.is_empty() {
            self.mailbox.give_back(aside.into_iter().chain(front));
        }
    }
}
