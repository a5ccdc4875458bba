//! Our own publisher, on another implementation of RTMP, against the ingest: every byte arrives, every refusal too.

use std::time::Duration;

use millrace_publisher::{Clip, Playout, PublishError, Publisher, Tag, TagKind};
use millrace_router::ingest::{
    IngestEnd, IngestEvent, Limits, MessageKind, Publication, PublisherMessage, Refusal,
};
use millrace_types::RefusalReason;
use tokio::time::timeout;

use crate::farm::{Farm, PATIENCE, next_media, tally};

/// What the publisher's tag must arrive as.
fn as_message(tag: &Tag) -> PublisherMessage {
    let kind = match tag.kind {
        TagKind::Video => MessageKind::Video,
        TagKind::Audio => MessageKind::Audio,
        TagKind::Metadata => MessageKind::Metadata,
    };
    PublisherMessage { kind, timestamp_ms: tag.timestamp_ms, body: tag.body.clone() }
}

async fn connect(farm: &Farm) -> Publisher {
    let url = format!("rtmp://{}/live", farm.address);
    Publisher::connect(&url, &farm.key.reveal()).await.expect("let in")
}

async fn all_media(mut publication: Publication) -> Vec<PublisherMessage> {
    let mut media = Vec::new();
    while let Some(event) = timeout(PATIENCE, publication.next()).await.expect("in time") {
        if let IngestEvent::Media(message) = event {
            media.push(message);
        }
    }
    media
}

#[tokio::test]
async fn every_byte_and_timestamp_arrives_also_where_timestamps_wrap() {
    let mut farm = Farm::start().await;
    for start_ms in [0, u32::MAX - 5_000, 0xFF_FFFF - 4_000] {
        let mut publisher = connect(&farm).await;
        let publication = farm.publication().await;
        let sent: Vec<Tag> =
            Playout::rounds(&Clip::demo(), 1).starting_at(start_ms).map(|due| due.tag).collect();
        let send = async {
            for tag in &sent {
                publisher.send(tag).await.expect("sent");
            }
            publisher.finish().await.expect("finished");
        };
        let ((), got) = tokio::join!(send, all_media(publication));
        assert_eq!(got.len(), sent.len());
        for (message, tag) in got.iter().zip(&sent) {
            assert_eq!(*message, as_message(tag));
        }
    }
}

#[tokio::test]
async fn a_slow_owner_holds_the_publisher_back_and_loses_nothing() {
    let mut farm = Farm::start().await;
    let mut publisher = connect(&farm).await;
    let mut publication = farm.publication().await;
    let frame = Tag { kind: TagKind::Video, timestamp_ms: 0, body: vec![0x27; 1 << 20].into() };
    let held_back = async {
        for count in 0..64_u32 {
            if timeout(Duration::from_secs(1), publisher.send(&frame)).await.is_err() {
                return count;
            }
        }
        64
    };
    let sent = held_back.await;
    // Eight wait in the queue; the rest is what the sockets of loopback hold.
    assert!((8..40).contains(&sent), "{sent}");
    for _ in 0..sent {
        assert_eq!(next_media(&mut publication).await.body.len(), 1 << 20);
    }
}

#[tokio::test]
async fn a_wrong_key_is_an_error_with_the_servers_text() {
    let farm = Farm::start().await;
    for key in ["demo_aaaaaaaaaaaaaaaaaaaaaaaaaa", "demo", ""] {
        let refused = Publisher::connect(&format!("rtmp://{}/live", farm.address), key).await;
        let Err(PublishError::Refused { code, text }) = refused else { panic!("{key} let in") };
        assert_eq!(code, "NetStream.Publish.BadName");
        assert!(text.starts_with("bad_key: stream key not accepted"), "{text}");
    }
}

#[tokio::test]
async fn a_wrong_application_is_an_error_with_the_servers_text() {
    let farm = Farm::start().await;
    let refused = Publisher::connect(&format!("rtmp://{}/vod", farm.address), "x").await;
    let Err(PublishError::Refused { code, text }) = refused else { panic!("let in") };
    assert_eq!(code, "NetConnection.Connect.Rejected");
    assert!(text.contains("application \"vod\""), "{text}");
}

#[tokio::test]
async fn a_refusal_in_the_middle_reaches_the_publisher_and_ends_the_publication() {
    let mut farm = Farm::start().await;
    let mut publisher = connect(&farm).await;
    let mut publication = farm.publication().await;
    let refuse = async {
        next_media(&mut publication).await;
        publication.refuse(RefusalReason::TakenOver.into());
        tally(publication).await
    };
    let (played, tally) = tokio::join!(publisher.play(Playout::endless(&Clip::demo())), refuse);
    let Err(PublishError::Refused { text, .. }) = played else { panic!("{played:?}") };
    assert!(text.contains("another encoder publishes with this key"), "{text}");
    let refusal = Refusal::from(RefusalReason::TakenOver);
    assert_eq!(tally.end, Some(IngestEnd::Refused(refusal)));
}

#[tokio::test]
async fn an_owner_that_lets_go_ends_the_publisher() {
    let mut farm = Farm::start().await;
    let mut publisher = connect(&farm).await;
    drop(farm.publication().await);
    let played = timeout(PATIENCE, publisher.play(Playout::endless(&Clip::demo()))).await;
    assert!(matches!(played, Ok(Err(PublishError::Refused { .. }))), "{played:?}");
}

#[tokio::test]
async fn a_publisher_that_vanishes_is_reported_as_disconnected() {
    let mut farm = Farm::start().await;
    drop(connect(&farm).await);
    let publication = farm.publication().await;
    assert_eq!(tally(publication).await.end, Some(IngestEnd::Disconnected));
}

#[tokio::test]
async fn a_silent_publisher_is_let_go() {
    let limits = Limits { idle: Duration::from_millis(200), ..Limits::default() };
    let mut farm = Farm::with_limits(limits).await;
    let mut publisher = connect(&farm).await;
    let publication = farm.publication().await;
    let silent = Playout::endless(&Clip { tags: Vec::new() });
    publisher.play(silent).await.expect("nothing to play");
    let end = tally(publication).await.end;
    assert!(
        matches!(&end, Some(IngestEnd::Refused(refusal)) if refusal.reason == RefusalReason::Timeout)
    );
}
