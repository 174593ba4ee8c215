//! After everything is healed: every journal is read from every node, and written to once more.
//!
//! What it sees goes into the history like everything else; the properties judge it.

use std::time::Duration;

use cairn_client::{Cairn, Criteria, Position, ShardId};
use cairn_machine::{PersistenceId, SequenceNumber};

use crate::dice::Dice;
use crate::history::{Answer, Call, Fresh, History};
use crate::plan::Plan;
use crate::site::Site;
use crate::stamp::Stamp;
use crate::workload::recorder::{self, read_event};
use crate::workload::{self, Recorder};

/// The auditor's number among clients.
pub const AUDITOR: u16 = u16::MAX;
/// A healed cluster answers within this.
const DEADLINE: Duration = Duration::from_secs(20);

/// Reads everything from everywhere.
pub(crate) async fn run(plan: &Plan, site: &Site, members: &[u64], history: History) {
    let mut dice = Dice::new(plan.seed).stream("audit");
    let cairn = site.connect(plan, &mut dice).with_deadline(DEADLINE);
    let recorder = Recorder::new(AUDITOR, history, plan.bug);
    for persistence_id in workload::journals(plan.load.journals) {
        write(&cairn, &recorder, &persistence_id).await;
        for node in members {
            read(&cairn, &recorder, &persistence_id, site, *node).await;
        }
        recorder.load(&cairn.journal_of(persistence_id.clone()), Criteria::LATEST).await;
    }
    for shard in 0..plan.shards {
        follow(&cairn, &recorder, shard).await;
    }
}

/// One more event by a new owner: the cluster serves.
async fn write(cairn: &Cairn, recorder: &Recorder, persistence_id: &PersistenceId) {
    let journal = cairn.journal_of(persistence_id.clone());
    let id = recorder.begin(persistence_id.as_str(), Call::Claim { writer: "(auditor)".to_owned() });
    let claimed = journal.claim().await;
    recorder.end(id, claimed.as_ref().map(recorder::claimed).map_err(Clone::clone));
    let Ok(mut writer) = claimed else { return };
    let number = writer.submitted().0 + 1;
    let operation = u32::try_from(id.0).expect("fewer operations than that");
    let stamp = Stamp { client: AUDITOR, operation, index: 0, padding: 0, fold: None };
    let id = recorder.begin_write(&writer, vec![vec![(number, stamp)]]);
    let outcome = writer.append(stamp.new_event(persistence_id, SequenceNumber(number))).await;
    recorder.end(id, outcome.map(|appended| Answer::Written(vec![recorder::stored(appended)])));
}

async fn read(cairn: &Cairn, recorder: &Recorder, persistence_id: &PersistenceId, site: &Site, node: u64) {
    let journal = cairn.journal_of(persistence_id.clone()).read_at(site.address(node));
    // What it says is in the record.
    let _ = recorder.highest(&journal, Fresh::Strong, Some(node)).await;
    let call = Call::Replay {
        from: 1,
        to: SequenceNumber::MAX.0,
        max: SequenceNumber::MAX.0,
        include_deleted: true,
        fresh: Fresh::Strong,
        node: Some(node),
        after: None,
    };
    let id = recorder.begin(persistence_id.as_str(), call);
    let mut replay = journal.replay(..).include_deleted().start();
    match recorder::drain(persistence_id, &mut replay, async || {}).await {
        Ok((events, None)) => recorder.end(id, Ok(recorder::replayed(events, &replay))),
        Ok((_, Some(error))) => recorder.end(id, Err(error)),
        Err(wrong) => recorder.end_wrong(id, wrong),
    }
}

/// Everything of a shard, in commit order.
async fn follow(cairn: &Cairn, recorder: &Recorder, shard: u16) {
    let id = recorder.begin("", Call::FollowShard { shard, after: 0 });
    let mut stream = cairn.follow_shard(ShardId(shard), Position(0)).current().start();
    let mut events = Vec::new();
    loop {
        match stream.next().await {
            Ok(Some(event)) => match read_event(&event.persistence_id, &event.stored) {
                Ok(read) => events.push((event.persistence_id.as_str().to_owned(), read)),
                Err(wrong) => return recorder.end_wrong(id, wrong),
            },
            Ok(None) => break,
            Err(error) => return recorder.end(id, Err(error)),
        }
    }
    let to = stream.followed_to().0;
    recorder.end(id, Ok(Answer::Followed { events, to }));
}
