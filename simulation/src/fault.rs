//! What goes wrong in a world, as data: drawn by a plan or written by a user, carried out by the world.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::disk::{Access, Moment};

/// Which machine, found when the fault begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Who {
    /// The one with this node id.
    Node(u64),
    /// The one that leads this shard; any one if nobody does.
    Leader(u16),
    /// The first that runs and does not lead this shard.
    Follower(u16),
}

/// How links are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cut {
    /// The machine and all others do not reach each other.
    Isolate,
    /// The machine reaches nobody, but hears all.
    Mute,
    /// The machine hears nobody, but reaches all.
    Deaf,
    /// The machine and the one after it do not reach each other; everybody else does.
    Pair,
    /// Two halves that only the machine reaches.
    Bridge,
    /// The machine is isolated from the other nodes, but clients reach it.
    FromNodes,
}

/// What a machine comes back with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Loss {
    /// With nothing, under its old identity: it must not take part, and is replaced.
    Wiped,
    /// With what it kept some time before: if a leader remembers that it had more, it must stop and say so, and is replaced; if none
    /// does, nothing tells it apart from a slow node, and it goes on as one.
    Old,
    /// With another node's files: it must not start, until it has its own again.
    Foreign,
    /// With one bit that is not as it was written: it must say so or mend it, and is replaced.
    Flipped,
    /// With one file that lacks its end: as with a flipped bit.
    Truncated,
}

impl Loss {
    /// Whether another node may have to take its place.
    #[must_use]
    pub fn needs_replacement(self) -> bool {
        self != Self::Foreign
    }
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// The node dies; with the power, what was not synced is lost in any subset.
    Crash {
        /// Whose.
        who: Who,
        /// Whether its machine loses power.
        power_cut: bool,
    },
    /// Every node dies at once.
    CrashAll {
        /// Whether the machines lose power.
        power_cut: bool,
    },
    /// The node stops in order, as for an upgrade.
    Stop {
        /// Whose.
        who: Who,
    },
    /// Links lose everything: connections over them are dead afterwards.
    Partition {
        /// Around which machine.
        who: Who,
        /// Which links.
        cut: Cut,
    },
    /// As a partition that comes and goes, half a second each.
    Flap {
        /// Around which machine.
        who: Who,
        /// Which links.
        cut: Cut,
    },
    /// Links hold everything back and deliver it at the end.
    Hold {
        /// Around which machine.
        who: Who,
    },
    /// Messages of the machine take up to this long.
    SlowLinks {
        /// Around which machine.
        who: Who,
        /// How long at most.
        latency_max: Duration,
    },
    /// The next access of this kind fails, once.
    DiskError {
        /// Whose disk.
        who: Who,
        /// Which access.
        access: Access,
    },
    /// The disk is slow.
    SlowDisk {
        /// Whose.
        who: Who,
        /// How long a sync takes at most.
        sync_max: Duration,
    },
    /// The disk does not answer.
    StuckDisk {
        /// Whose.
        who: Who,
    },
    /// The disk has so many bytes left.
    FullDisk {
        /// Whose.
        who: Who,
        /// How many.
        bytes: u64,
    },
    /// The machine's clock jumps.
    ClockJump {
        /// Whose.
        who: Who,
        /// By how many microseconds.
        micros: i64,
    },
    /// Leadership of every shard is handed over.
    HandOver,
    /// A spare machine is taken in.
    Add,
    /// A node is taken out for good.
    Remove {
        /// Which.
        who: Who,
    },
    /// A spare machine takes a node's place.
    Replace {
        /// Whose.
        who: Who,
    },
    /// Every node stops in order and starts again, one after the other.
    RollingRestart,
    /// A machine goes down and comes back with other files.
    Loss {
        /// Which.
        who: Who,
        /// With what.
        loss: Loss,
    },
    /// The node stands still: nothing of it moves, and what is sent to it waits.
    Pause {
        /// Which.
        who: Who,
    },
    /// The node's consensus lives too fast or too slowly.
    ClockRate {
        /// Whose.
        who: Who,
        /// How fast, in thousandths of the world's time.
        thousandths: u32,
    },
    /// Every connection of the machine is reset in the middle of a message.
    Reset {
        /// Whose.
        who: Who,
        /// How many bytes of the message still travel at most.
        bytes_sent_max: usize,
    },
    /// What the node answers to clients is lost.
    LostAnswers {
        /// Whose.
        who: Who,
    },
    /// Whoever has sent something to the node takes its connection for broken, and may send it again on another; what was sent on
    /// the first one arrives all the same, when this is over.
    LateDelivery {
        /// To which node.
        who: Who,
    },
    /// Messages of the machine take up to this long, half a second at a time.
    Spikes {
        /// Around which machine.
        who: Who,
        /// How long at most.
        latency_max: Duration,
    },
    /// The node dies inside the next access of this kind.
    DiesIn {
        /// Whose disk.
        who: Who,
        /// Which access.
        access: Access,
        /// Before or after it took effect.
        moment: Moment,
        /// Whether its machine loses power.
        power_cut: bool,
    },
    /// The node's tables take so many flushes more, and fail then as if the power were gone.
    DiesInFlush {
        /// Whose.
        who: Who,
        /// How many are taken still.
        flushes: u64,
    },
}

impl Fault {
    /// Its kind, for tables.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Crash { power_cut: false, .. } => "kill",
            Self::Crash { power_cut: true, .. } => "power cut",
            Self::CrashAll { .. } => "all down",
            Self::Stop { .. } => "stop",
            Self::Partition { cut: Cut::Isolate, .. } => "partition",
            Self::Partition { cut: Cut::Mute | Cut::Deaf, .. } => "one-way partition",
            Self::Partition { cut: Cut::Pair | Cut::FromNodes, .. } => "partial partition",
            Self::Partition { cut: Cut::Bridge, .. } => "bridge",
            Self::Flap { .. } => "flapping",
            Self::Hold { .. } => "hold",
            Self::SlowLinks { .. } => "slow links",
            Self::DiskError { access: Access::Read, .. } => "read error",
            Self::DiskError { access: Access::Write, .. } => "write error",
            Self::DiskError { access: Access::Sync, .. } => "sync error",
            Self::SlowDisk { .. } => "slow disk",
            Self::StuckDisk { .. } => "stuck disk",
            Self::FullDisk { .. } => "full disk",
            Self::ClockJump { .. } => "clock jump",
            Self::HandOver => "hand over",
            Self::Add => "add",
            Self::Remove { .. } => "remove",
            Self::Replace { .. } => "replace",
            Self::RollingRestart => "rolling restart",
            Self::Loss { loss, .. } => Self::kind_of_loss(*loss),
            Self::Pause { .. } => "pause",
            Self::ClockRate { .. } => "clock rate",
            Self::Reset { .. } => "reset",
            Self::LostAnswers { .. } => "lost answers",
            Self::LateDelivery { .. } => "late delivery",
            Self::Spikes { .. } => "latency spikes",
            Self::DiesIn { access: Access::Read, .. } => "death in a read",
            Self::DiesIn { access: Access::Write, .. } => "death in a write",
            Self::DiesIn { access: Access::Sync, .. } => "death in a sync",
            Self::DiesInFlush { .. } => "death in a flush",
        }
    }

    /// The kind of a loss, for tables.
    #[must_use]
    pub fn kind_of_loss(loss: Loss) -> &'static str {
        match loss {
            Loss::Wiped => "wiped disk",
            Loss::Old => "old files",
            Loss::Foreign => "foreign files",
            Loss::Flipped => "bit flip",
            Loss::Truncated => "truncation",
        }
    }

    /// Whether it may come to nothing by what went before: who may leave, or lose what it keeps, depends on who did already.
    #[must_use]
    pub fn needs_room(&self) -> bool {
        matches!(self, Self::Add | Self::Remove { .. } | Self::Replace { .. } | Self::Loss { .. })
    }

    /// Whether it is about a disk.
    #[must_use]
    pub fn is_of_disk(&self) -> bool {
        matches!(
            self,
            Self::DiskError { .. }
                | Self::SlowDisk { .. }
                | Self::StuckDisk { .. }
                | Self::FullDisk { .. }
                | Self::Loss { .. }
                | Self::DiesIn { .. }
                | Self::DiesInFlush { .. }
                | Self::Crash { power_cut: true, .. }
                | Self::CrashAll { power_cut: true }
        )
    }
}

/// A fault with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduled {
    /// When it begins, since the world did.
    pub at: Duration,
    /// For how long; a crashed node stays down so long.
    pub lasts: Duration,
    /// What goes wrong.
    pub fault: Fault,
}
