//! `cairn journal append`.

use std::io::Read;

use anyhow::{Context, anyhow};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cairn_client::{Appended, JournalWriter, NewEvent};
use cairn_machine::{Payload, SequenceNumber};
use clap::Args;
use serde::Serialize;

use crate::connect::connect;
use crate::exit::{Exit, Stop};
use crate::shared::Shared;

use super::view::time;

/// `cairn journal append ..`
#[derive(Debug, Args)]
pub struct AppendArguments {
    /// The persistence id.
    persistence_id: String,
    /// The events' payloads; without any, each line of standard input is one.
    payloads: Vec<String>,
    /// The payloads are base64.
    #[arg(long)]
    base64: bool,
    /// The id of the serializer in your actor system.
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    serializer_id: i32,
    /// The serializer's manifest.
    #[arg(long, default_value = "")]
    manifest: String,
    /// The event adapter's manifest.
    #[arg(long, default_value = "")]
    adapter_manifest: String,
    /// A tag. Can be repeated.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Store all events or none.
    #[arg(long)]
    atomic: bool,
    /// Store only if the journal's highest number is this.
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
}

#[derive(Serialize)]
struct AppendedView {
    persistence_id: String,
    first: u64,
    last: u64,
    position: u64,
    stored: String,
    epoch: Option<u64>,
}

/// Runs `cairn journal append`.
///
/// # Errors
/// What the cluster refused, or why it could not answer.
pub async fn run(arguments: &AppendArguments, shared: &Shared) -> anyhow::Result<()> {
    let events = arguments.events()?;
    let journal = connect(shared).await?.journal(arguments.persistence_id.as_str())?;
    // Before the claim, so that whoever writes to the journal is not fenced for nothing.
    arguments.check_after(journal.highest().await?.highest)?;
    let mut writer = journal.claim().await?;
    arguments.check_after(writer.submitted())?;
    let epoch = writer.epoch().map(|epoch| epoch.0);
    let appended =
        if arguments.atomic { vec![writer.append_all(events).await?] } else { append_each(&mut writer, events).await? };
    let (Some(first), Some(last)) = (appended.first(), appended.last()) else {
        return Err(anyhow!(Stop::input("there is no event to append")));
    };
    shared.output().record(&AppendedView {
        persistence_id: arguments.persistence_id.clone(),
        first: first.first.0,
        last: last.last.0,
        position: first.position.0,
        stored: time(last.timestamp),
        epoch,
    })
}

/// Stores each event by itself: all in flight at once, stored in order.
async fn append_each(writer: &mut JournalWriter, events: Vec<NewEvent>) -> anyhow::Result<Vec<Appended>> {
    let count = events.len();
    let mut submitted = Vec::with_capacity(count);
    let mut not_taken = None;
    for event in events {
        match writer.submit(event).await {
            Ok(sent) => submitted.push(sent),
            Err(error) => {
                not_taken = Some(error);
                break;
            }
        }
    }
    // What was sent has an outcome of its own, also if a later event was not taken.
    let outcomes = futures::future::join_all(submitted).await;
    let (mut stored, mut failed) = (Vec::with_capacity(count), Vec::new());
    for outcome in outcomes.into_iter().chain(not_taken.map(Err)) {
        match outcome {
            Ok(appended) => stored.push(appended),
            Err(error) => failed.push(error),
        }
    }
    let Some(first) = failed.first() else { return Ok(stored) };
    // One event that may be stored makes the outcome unknown.
    let error = failed.iter().find(|error| !error.is_definite()).unwrap_or(first).clone();
    let Some(last) = stored.last() else { return Err(error.into()) };
    let partly = format!("{} of {count} events are stored, up to number {}", stored.len(), last.last);
    if error.is_definite() {
        // Neither "nothing was done" nor "try again" is true any more.
        return Err(anyhow!(Stop::new(Exit::Failed, format!("{partly}; the others are not: {error}"))));
    }
    Err(anyhow!(error).context(partly))
}

impl AppendArguments {
    fn check_after(&self, highest: SequenceNumber) -> anyhow::Result<()> {
        match self.after {
            Some(after) if highest != SequenceNumber(after) => {
                let message = format!("conflict: the journal's highest number is {highest}, not {after}");
                Err(anyhow!(Stop::new(Exit::Refused, message)))
            }
            _ => Ok(()),
        }
    }

    fn events(&self) -> anyhow::Result<Vec<NewEvent>> {
        let payloads = match self.payloads.as_slice() {
            [] => lines_of_standard_input()?,
            payloads => payloads.to_vec(),
        };
        if payloads.is_empty() {
            return Err(anyhow!(Stop::input("there is no event to append")));
        }
        payloads.into_iter().map(|payload| self.event(payload)).collect()
    }

    fn event(&self, payload: String) -> anyhow::Result<NewEvent> {
        let bytes = if self.base64 {
            BASE64_STANDARD.decode(&payload).map_err(|error| anyhow!(Stop::input(format!("{payload:?}: not base64: {error}"))))?
        } else {
            payload.into_bytes()
        };
        Ok(NewEvent {
            payload: Payload { serializer_id: self.serializer_id, manifest: self.manifest.clone(), bytes: bytes.into() },
            adapter_manifest: self.adapter_manifest.clone(),
            metadata: None,
            tags: self.tags.clone(),
        })
    }
}

fn lines_of_standard_input() -> anyhow::Result<Vec<String>> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("read standard input")?;
    Ok(text.lines().map(str::to_owned).collect())
}
