//! The systems: each starts its cluster and speaks to it as its users would.
//!
//! One file a system. What a driver promises, and what it does not, stands at its head, and in `ops/docs/performance.md`.

mod cairn;
mod echo;
mod etcd;
mod jetstream;
mod postgresql;
mod sync_floor;

use std::path::PathBuf;

use clap::ValueEnum;

use crate::contender::Contender;

/// Every system that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SystemName {
    /// Cairn.
    Cairn,
    /// etcd.
    Etcd,
    /// NATS JetStream, which syncs now and then.
    Jetstream,
    /// NATS JetStream that syncs before it answers.
    JetstreamSynced,
    /// PostgreSQL with two synchronous standbys.
    Postgresql,
    /// Floor: syncs of files.
    SyncFloor,
    /// Floor: gRPC, a call at a time.
    EchoUnary,
    /// Floor: gRPC, one stream.
    EchoStream,
}

/// Which of the names is ours: what the others are compared with.
pub const OURS: &str = "cairn";

impl SystemName {
    /// What runs under this name; `cairn` is the binary of ours.
    #[must_use]
    pub fn contender(self, cairn: Option<PathBuf>) -> Box<dyn Contender> {
        match self {
            Self::Cairn => Box::new(cairn::Cairn::new(cairn)),
            Self::Etcd => Box::new(etcd::Etcd::find()),
            Self::Jetstream => Box::new(jetstream::Jetstream::find(jetstream::Sync::NowAndThen)),
            Self::JetstreamSynced => Box::new(jetstream::Jetstream::find(jetstream::Sync::BeforeTheAnswer)),
            Self::Postgresql => Box::new(postgresql::Postgresql::find()),
            Self::SyncFloor => Box::new(sync_floor::SyncFloor),
            Self::EchoUnary => Box::new(echo::Echo::Unary),
            Self::EchoStream => Box::new(echo::Echo::Stream),
        }
    }
}

/// What a floor does: small events of ever more writers.
fn floor_lacks(point: crate::plan::Point) -> Option<&'static str> {
    (!crate::plan::Point::GROWING.contains(&point)).then_some("a floor")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Point;

    #[test]
    fn every_name_is_its_contenders() {
        for name in SystemName::value_variants() {
            let value = name.to_possible_value().expect("a name");
            assert_eq!(name.contender(None).name(), value.get_name());
        }
        assert_eq!(SystemName::Cairn.contender(None).name(), OURS);
    }

    #[test]
    fn cairn_does_everything_and_floors_only_grow() {
        for point in Point::value_variants() {
            assert_eq!(SystemName::Cairn.contender(None).lacks(*point), None);
            assert_eq!(SystemName::SyncFloor.contender(None).lacks(*point).is_none(), Point::GROWING.contains(point));
        }
    }
}
