//! Which hosts reach which: the sum of all faults that are about links.
//!
//! Invariant: the network is in the state that the active faults together ask for, whatever the order in which they came and went.

use std::collections::BTreeSet;

use turmoil::Sim;

/// From one host to another.
type Direction = (String, String);

/// The state of all links.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Links {
    /// Messages are lost.
    cut: BTreeSet<Direction>,
    /// Messages are kept until the link is free again; both directions, the lesser name first.
    held: BTreeSet<Direction>,
}

impl Links {
    /// Messages from one host to the other are lost.
    pub(crate) fn cut(&mut self, from: &str, to: &str) {
        if from != to {
            self.cut.insert((from.to_owned(), to.to_owned()));
        }
    }

    /// Messages between two hosts are kept back.
    pub(crate) fn hold(&mut self, one: &str, other: &str) {
        if one != other {
            self.held.insert((one.min(other).to_owned(), one.max(other).to_owned()));
        }
    }

    /// Brings the network from the state of `before` to this one.
    pub(crate) fn apply(&self, before: &Self, sim: &Sim<'_>) {
        for (from, to) in before.cut.difference(&self.cut) {
            sim.repair_oneway(from.as_str(), to.as_str());
        }
        for (one, other) in before.held.difference(&self.held) {
            sim.release(one.as_str(), other.as_str());
        }
        for (one, other) in self.held.difference(&before.held) {
            sim.hold(one.as_str(), other.as_str());
        }
        // A release makes both directions whole, and a hold replaces a cut: what is cut comes last.
        for (from, to) in &self.cut {
            let touched = (from.min(to).clone(), from.max(to).clone());
            let is_new = !before.cut.contains(&(from.clone(), to.clone()));
            if is_new || self.held.contains(&touched) != before.held.contains(&touched) {
                sim.partition_oneway(from.as_str(), to.as_str());
            }
        }
    }
}
