//! One write: a transaction that takes place once or not at all, tried again until it is answered or its time is up.
//!
//! An attempt that was not answered may have taken place. It is repeated as it was, on the condition that the record
//! still is at the revision it was at: so it cannot take place twice. When the record has moved on and does not say what
//! was written, nobody can tell, and the caller hears that.

use std::time::Duration;

use etcd_client::{Client, Compare, CompareOp, Error, PutOptions, Txn, TxnOp, TxnOpResponse};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::Shared;
use crate::view::Entry;

/// A handle's write has its answer within this time.
pub const BOUND: Duration = Duration::from_secs(5);
/// One attempt, less than the bound: another member may answer.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Between attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// What to write.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    pub key: &'a str,
    /// What must be there: written at that revision, 0: nothing; `None`: whatever is.
    pub revision: Option<i64>,
    /// `None`: delete it.
    pub text: Option<&'a str>,
    /// 0: none.
    pub lease: i64,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It stands.
    Done,
    /// Something else was there; the view knows it now.
    Conflict,
}

/// Writes through whichever session there is.
pub async fn bounded(shared: &Shared, order: &Order<'_>) -> Result<Outcome, String> {
    let deadline = Instant::now() + BOUND;
    let mut clients = shared.client.subscribe();
    let mut unsure = false;
    loop {
        let client = timeout_at(deadline, clients.wait_for(Option::is_some)).await;
        let client = client.ok().and_then(|client| client.ok()?.clone());
        let Some(client) = client else { return Err(shared.trouble()) };
        let left = deadline.saturating_duration_since(Instant::now());
        match timeout(ATTEMPT.min(left), attempt(shared, client, order)).await {
            Ok(Ok(Outcome::Conflict)) if unsure => {
                let stands = shared.view().get(order.key).map(|entry| entry.text.clone());
                return if stands.as_deref() == order.text {
                    Ok(Outcome::Done)
                } else {
                    Err("an answer was lost, and the record has changed since".to_owned())
                };
            }
            Ok(Ok(outcome)) => return Ok(outcome),
            Ok(Err(error)) if is_final(&error) => return Err(error.to_string()),
            Ok(Err(error)) => shared.set_trouble(error.to_string()),
            Err(_) => shared.set_trouble("no answer in time".to_owned()),
        }
        unsure = true;
        if Instant::now() + PAUSE >= deadline {
            return Err(shared.trouble());
        }
        sleep(PAUSE).await;
    }
}

/// Trying again would not help.
fn is_final(error: &Error) -> bool {
    // Codes of gRPC: invalid argument, permission denied, out of range.
    matches!(error, Error::GRpcStatus(status) if [3, 7, 11].contains(&(status.code() as i32)))
}

/// One transaction; the view knows its result before the caller does.
pub async fn attempt(shared: &Shared, client: Client, order: &Order<'_>) -> Result<Outcome, Error> {
    let Order { key, revision, text, lease } = *order;
    let mut txn = Txn::new();
    if let Some(revision) = revision {
        txn = txn.when(vec![Compare::mod_revision(key, CompareOp::Equal, revision)]);
    }
    let write = match text {
        Some(text) => TxnOp::put(key, text, Some(PutOptions::new().with_lease(lease))),
        None => TxnOp::delete(key, None),
    };
    let txn = txn.and_then(vec![write]).or_else(vec![TxnOp::get(key, None)]);
    let answer = client.kv_client().txn(txn).await?;
    let now = answer.header().map_or(0, |header| header.revision());
    if answer.succeeded() {
        shared.fold(|view| match text {
            Some(text) => view.put(key, Entry { text: text.to_owned(), revision: now, lease }),
            None => view.delete(key, now),
        });
        return Ok(Outcome::Done);
    }
    let found = answer.op_responses().into_iter().find_map(|response| match response {
        TxnOpResponse::Get(mut found) => found.take_kvs().pop(),
        _ => None,
    });
    shared.fold(|view| match &found {
        Some(found) => view.put(key, super::follow::entry(found)),
        None => view.delete(key, now),
    });
    Ok(Outcome::Conflict)
}
