//! An origin that is lost: whether the others are too, which the router is told with it. If so, it is the node that is cut off,
//! and another origin would not help it.

use std::{net::SocketAddr, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use millrace_types::StreamId;
use millrace_wire::OriginLost;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::{host::Host, origin_client::OriginClient};

/// How long one of the others has to answer. The stream waits meanwhile.
const PATIENCE: Duration = Duration::from_millis(300);

/// What is being found out.
#[derive(Debug, Default)]
pub struct LostOrigin(Option<AbortOnDropHandle<OriginLost>>);

impl LostOrigin {
    /// The origin whose intake is at `intake` was lost: the others are asked.
    pub fn ask_others(&mut self, intake: SocketAddr, stream: &StreamId, host: &Host) {
        let (host, stream) = (host.clone(), stream.clone());
        let asking = async move {
            let others = host.origins_but(intake).await;
            let with_all = !any_answers(&others, &stream).await;
            OriginLost { intake, with_all }
        };
        self.0 = Some(AbortOnDropHandle::new(tokio::spawn(asking)));
    }

    /// What the router is to be told, once. Cancel-safe; for ever without a lost origin.
    pub async fn others_asked(&mut self) -> OriginLost {
        loop {
            let Some(asking) = &mut self.0 else { return std::future::pending().await };
            let asked = asking.await;
            self.0 = None;
            if let Ok(lost) = asked {
                return lost;
            }
        }
    }
}

/// Whether one of them answers in time; the first that does is enough.
async fn any_answers(origins: &[OriginClient], stream: &StreamId) -> bool {
    let mut asked: FuturesUnordered<_> = origins.iter().map(|it| it.answers(stream)).collect();
    let one = async {
        while let Some(answers) = asked.next().await {
            if answers {
                return true;
            }
        }
        false
    };
    timeout(PATIENCE, one).await.unwrap_or(false)
}
