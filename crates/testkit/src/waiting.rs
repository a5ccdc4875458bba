//! Waiting with a deadline, and free ports. Never waits for a fixed time alone.

use std::{
    io,
    net::TcpListener,
    time::{Duration, Instant},
};

/// How often a condition is asked.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// The condition did not come true in time.
#[derive(Debug, thiserror::Error)]
#[error("{what} did not happen within {within:?}")]
pub struct Late {
    /// What was awaited.
    pub what: String,
    /// How long.
    pub within: Duration,
}

/// Waits until `condition` holds, asking every 10 ms.
///
/// # Errors
///
/// [`Late`] when it does not hold after `within`.
pub async fn until(
    what: &str,
    within: Duration,
    mut condition: impl FnMut() -> bool,
) -> Result<(), Late> {
    until_some(what, within, async || condition().then_some(())).await
}

/// Waits until `ask` answers with a value, asking every 10 ms; an answer may itself take until the deadline, no longer.
///
/// # Errors
///
/// [`Late`] when there is none after `within`.
pub async fn until_some<T>(
    what: &str,
    within: Duration,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> Result<T, Late> {
    let deadline = Instant::now() + within;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if let Ok(Some(value)) = tokio::time::timeout(left.max(ASK_EVERY), ask()).await {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            return Err(Late { what: what.to_owned(), within });
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// A TCP port of 127.0.0.1 that nobody listens on now. Prefer port 0 where the listener can tell its real port.
///
/// # Errors
///
/// When none can be bound.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_ends_when_the_condition_holds() {
        let mut asked = 0;
        until("third question", Duration::from_secs(5), || {
            asked += 1;
            asked == 3
        })
        .await
        .expect("in time");
    }

    #[tokio::test]
    async fn waiting_in_vain_says_what_was_awaited() {
        let late = until("a pig's flight", Duration::from_millis(30), || false).await;
        let late = late.expect_err("pigs do not fly").to_string();
        assert_eq!(late, "a pig's flight did not happen within 30ms");
    }

    #[tokio::test]
    async fn a_question_that_never_ends_does_not_outlive_the_deadline() {
        let asked = Instant::now();
        let never = async || std::future::pending::<Option<()>>().await;
        until_some("the end", Duration::from_millis(50), never).await.expect_err("never");
        assert!(asked.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn a_free_port_can_be_bound() {
        let port = free_port().expect("a port");
        TcpListener::bind(("127.0.0.1", port)).expect("still free");
    }
}
