//! Admission: how many commands, and how many of their bytes, may wait for an answer on the whole node. What does not fit is
//! refused at once, before it costs anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bounds, and what is taken of them.
#[derive(Debug)]
pub(crate) struct Admission {
    commands_max: usize,
    bytes_max: usize,
    commands: AtomicUsize,
    bytes: AtomicUsize,
}

/// Room that was taken; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    admission: Arc<Admission>,
    commands: usize,
    bytes: usize,
}

impl Admission {
    pub(crate) fn new(commands_max: usize, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { commands_max, bytes_max, commands: AtomicUsize::new(0), bytes: AtomicUsize::new(0) })
    }

    /// Takes room, or says that there is none.
    pub(crate) fn admit(self: &Arc<Self>, commands: usize, bytes: usize) -> Option<Admitted> {
        let commands_before = self.commands.fetch_add(commands, Ordering::Relaxed);
        let bytes_before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let admitted = Admitted { admission: Arc::clone(self), commands, bytes };
        // One request larger than what is left is let in when nothing else is there, or it could never pass.
        let fits = commands_before + commands <= self.commands_max && bytes_before + bytes <= self.bytes_max;
        (fits || commands_before == 0).then_some(admitted)
    }

    /// How many commands wait.
    pub(crate) fn commands(&self) -> usize {
        self.commands.load(Ordering::Relaxed)
    }

    /// How many of their bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Admitted {
    /// Splits off a part of the room that was taken.
    ///
    /// # Panics
    /// If more is split off than was taken.
    pub(crate) fn split(&mut self, commands: usize, bytes: usize) -> Self {
        self.commands = self.commands.checked_sub(commands).expect("no more is given back than was taken");
        self.bytes = self.bytes.checked_sub(bytes).expect("no more is given back than was taken");
        Self { admission: Arc::clone(&self.admission), commands, bytes }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.commands.fetch_sub(self.commands, Ordering::Relaxed);
        self.admission.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_takes_no_room() {
        let admission = Admission::new(10, 1000);
        let mut held = admission.admit(9, 900).expect("fits");
        assert!(admission.admit(2, 1).is_none());
        assert!(admission.admit(1, 101).is_none());
        assert_eq!((admission.commands(), admission.bytes()), (9, 900));
        drop(held.split(4, 400));
        assert_eq!((admission.commands(), admission.bytes()), (5, 500));
        admission.admit(5, 500).expect("fits again");
        drop(held);
        assert_eq!((admission.commands(), admission.bytes()), (0, 0));
    }

    #[test]
    fn one_large_request_passes_when_nothing_else_is_there() {
        let admission = Admission::new(10, 1000);
        assert!(admission.admit(1, 5000).is_some());
    }
}
