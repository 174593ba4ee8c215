//! What the journals of all accounts say of payments, held against each other and against what payers were told.

use std::collections::{BTreeMap, BTreeSet};

use cairn_actor::Behavior;
use cairn_client::{Cairn, Error};

use super::account::{Account, Event, State, account_name};

/// From whom, to whom, and the how manieth of the payer's.
type Transfer = (String, String, u64);

/// All payments there are.
#[derive(Default)]
pub struct Ledger {
    /// Their names and amounts.
    sent: BTreeMap<Transfer, (String, u64)>,
    /// Amounts as the receivers have them: once, or more than once.
    received: BTreeMap<Transfer, Vec<u64>>,
}

impl Ledger {
    /// Reads every account's journal from its first event on.
    pub async fn read(cairn: &Cairn, accounts: u64) -> Result<Self, Error> {
        let mut ledger = Self::default();
        for account in (1..=accounts).map(account_name) {
            let (mut state, mut sent) = (State::default(), 0);
            for stored in cairn.journal(account.clone())?.replay(..).start().collect_all().await? {
                let event: Event =
                    ciborium::from_reader(&stored.event.payload.bytes[..]).expect("accounts write events of accounts");
                // It panics where an account is overdrawn.
                Account::apply(&mut state, &event);
                match event {
                    Event::Sent { name, to, amount } => {
                        sent += 1;
                        ledger.sent.insert((account.clone(), to, sent), (name, amount));
                    }
                    Event::Received { from, id, amount } => {
                        ledger.received.entry((from, account.clone(), id.0)).or_default().push(amount);
                    }
                    Event::Confirmed { .. } => {}
                }
            }
        }
        Ok(ledger)
    }

    /// Everything that must not be, once nothing is on its way, when these payments were acknowledged.
    pub fn wrong(&self, acknowledged: &BTreeSet<String>) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut names = BTreeSet::new();
        for (transfer, (name, amount)) in &self.sent {
            if !names.insert(name) {
                wrong.push(format!("{name} was made twice"));
            }
            let arrived = self.received.get(transfer).map_or(&[][..], |amounts| amounts);
            if arrived != [*amount] {
                wrong.push(format!("{name}, {transfer:?}: {amount} was sent, and {arrived:?} arrived"));
            }
        }
        let invented = self.received.keys().filter(|transfer| !self.sent.contains_key(*transfer));
        wrong.extend(invented.map(|transfer| format!("{transfer:?} arrived, and was never sent")));
        let lost = acknowledged.iter().filter(|name| !names.contains(name));
        wrong.extend(lost.map(|name| format!("{name} was acknowledged, and is not there")));
        wrong
    }
}
