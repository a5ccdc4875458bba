//! What a stream decides about its publisher, its placements and its end.

use super::*;

fn at(millis: u64) -> Mono {
    Mono(Duration::from_millis(millis))
}

fn said(stream: &mut Stream) -> Vec<StreamOutput> {
    std::iter::from_fn(|| stream.poll()).collect()
}

fn place(placement: u64, ladder: LadderChoice) -> StreamOutput {
    StreamOutput::Place { epoch: Epoch { generation: 1, placement }, ladder }
}

fn worker(reason: EndReason, node: &str) -> StreamInput {
    StreamInput::Lost(Lost::Worker(reason, node.parse().unwrap()))
}

fn live() -> Stream {
    let mut stream = Stream::new(at(0), Epoch { generation: 1, placement: 0 });
    for input in [StreamInput::PublisherJoined, StreamInput::SourceKnown, StreamInput::Admitted] {
        stream.handle(at(0), input);
    }
    assert_eq!(said(&mut stream), [place(1, LadderChoice::Full)]);
    stream
}

#[test]
fn a_dead_worker_is_replaced_at_once_under_a_higher_epoch() {
    let mut stream = live();
    stream.handle(at(5), worker(EndReason::KilledSignal, "a"));
    assert_eq!(said(&mut stream), [place(2, LadderChoice::Full)]);
}

#[test]
fn a_stream_that_fails_three_times_without_progress_goes_on_as_passthrough() {
    let mut stream = live();
    let lost = worker(EndReason::Bug, "a");
    stream.handle(at(0), lost.clone());
    stream.handle(at(0), StreamInput::Admitted);
    stream.handle(at(0), lost.clone());
    stream.handle(stream.deadline().unwrap(), StreamInput::Tick);
    stream.handle(at(200), StreamInput::Admitted);
    stream.handle(at(200), lost);
    stream.handle(stream.deadline().unwrap(), StreamInput::Tick);
    let (full, passthrough) = (LadderChoice::Full, LadderChoice::Passthrough);
    assert_eq!(said(&mut stream), [place(2, full), place(3, full), place(4, passthrough)]);
}

#[test]
fn a_stream_that_fails_on_two_nodes_without_progress_goes_on_as_passthrough() {
    let mut stream = live();
    stream.handle(at(0), worker(EndReason::Bug, "a"));
    stream.handle(at(0), StreamInput::Admitted);
    stream.handle(at(0), worker(EndReason::KilledSignal, "b"));
    stream.handle(stream.deadline().unwrap(), StreamInput::Tick);
    let (full, passthrough) = (LadderChoice::Full, LadderChoice::Passthrough);
    assert_eq!(said(&mut stream), [place(2, full), place(3, passthrough)]);
}

#[test]
fn a_worker_that_had_published_is_not_counted_among_those_that_make_a_stream_poison() {
    let mut stream = live();
    stream.handle(at(0), StreamInput::Progressed);
    for node in ["a", "a", "a"] {
        stream.handle(at(0), worker(EndReason::Bug, node));
        let due = stream.deadline().unwrap_or(at(0));
        stream.handle(due, StreamInput::Tick);
        stream.handle(due, StreamInput::Admitted);
    }
    assert!(!stream.is_poison());
    stream.handle(at(200), worker(EndReason::Bug, "a"));
    assert!(stream.is_poison(), "three that published nothing");
}

#[test]
fn what_is_poison_stays_it_though_what_passes_through_goes_on_and_dies_again() {
    let mut stream = live();
    for node in ["a", "b"] {
        stream.handle(at(0), worker(EndReason::Bug, node));
        let due = stream.deadline().unwrap_or(at(0));
        stream.handle(due, StreamInput::Tick);
        stream.handle(due, StreamInput::Admitted);
    }
    stream.handle(at(200), StreamInput::Progressed);
    said(&mut stream);
    stream.handle(at(300), worker(EndReason::KilledSignal, "b"));
    assert_eq!(said(&mut stream), [place(4, LadderChoice::Passthrough)]);
    assert!(stream.is_poison() && !stream.lacks_room());
}

#[test]
fn what_was_published_in_between_and_lost_connections_make_no_stream_poison() {
    let mut stream = live();
    stream.handle(at(0), worker(EndReason::Bug, "a"));
    stream.handle(at(0), StreamInput::Admitted);
    stream.handle(at(0), StreamInput::Progressed);
    stream.handle(at(0), worker(EndReason::Bug, "b"));
    stream.handle(at(0), StreamInput::Admitted);
    for _ in 0..3 {
        stream.handle(at(0), StreamInput::Lost(Lost::Link));
        let due = stream.deadline().unwrap_or(at(0));
        stream.handle(due, StreamInput::Tick);
        stream.handle(due, StreamInput::Admitted);
    }
    let placed = said(&mut stream);
    let full = |said: &StreamOutput| {
        matches!(said, StreamOutput::Place { ladder: LadderChoice::Full, .. })
    };
    assert!(placed.len() == 5 && placed.iter().all(full), "{placed:?}");
}

#[test]
fn a_publisher_that_two_workers_cannot_decode_is_turned_away_whatever_they_published() {
    let mut stream = live();
    let lost = worker(EndReason::BadInput, "a");
    stream.handle(at(0), lost.clone());
    assert_eq!(said(&mut stream), [place(2, LadderChoice::Full)]);
    stream.handle(at(0), StreamInput::Admitted);
    stream.handle(at(1), StreamInput::Progressed);
    stream.handle(at(2), lost);
    let refused = StreamOutput::RefusePublisher(RefusalReason::Undecodable);
    assert_eq!(said(&mut stream), [refused, place(3, LadderChoice::Passthrough)]);
}

#[test]
fn a_publisher_that_comes_back_is_tried_again() {
    let mut stream = live();
    let lost = worker(EndReason::BadInput, "a");
    stream.handle(at(0), lost.clone());
    stream.handle(at(1), StreamInput::PublisherLeft);
    stream.handle(at(2), StreamInput::PublisherJoined);
    stream.handle(at(3), StreamInput::Admitted);
    stream.handle(at(4), StreamInput::Progressed);
    stream.handle(at(5), lost);
    let full = LadderChoice::Full;
    assert_eq!(said(&mut stream), [place(2, full), place(3, full)]);
}

#[test]
fn progress_between_failures_keeps_the_ladder() {
    let mut stream = live();
    for round in 0..9 {
        stream.handle(at(round), StreamInput::Lost(Lost::Link));
        assert_eq!(said(&mut stream), [place(round + 2, LadderChoice::Full)]);
        stream.handle(at(round), StreamInput::Admitted);
        stream.handle(at(round), StreamInput::Progressed);
    }
}

#[test]
fn a_daemon_that_is_upgraded_again_and_again_costs_no_stream_its_ladder() {
    let mut stream = live();
    for round in 0..9 {
        stream.handle(at(round), StreamInput::Lost(Lost::Restart));
        assert_eq!(said(&mut stream), [place(round + 2, LadderChoice::Full)]);
        stream.handle(at(round), StreamInput::Admitted);
    }
}

#[test]
fn a_full_farm_is_asked_for_passthrough_and_then_the_publisher_is_told() {
    let mut stream = Stream::new(at(0), Epoch::default());
    stream.handle(at(0), StreamInput::PublisherJoined);
    stream.handle(at(0), StreamInput::SourceKnown);
    stream.handle(at(1), StreamInput::Refused(RefusalReason::NoCapacity));
    stream.handle(at(2), StreamInput::Refused(RefusalReason::NoCapacity));
    let outputs = said(&mut stream);
    assert!(matches!(outputs[1], StreamOutput::Place { ladder: LadderChoice::Passthrough, .. }));
    let refused = StreamOutput::RefusePublisher(RefusalReason::NoCapacity);
    assert_eq!(outputs[2..], [refused, StreamOutput::Close]);
}

#[test]
fn a_live_stream_is_never_given_up_for_lack_of_capacity() {
    let mut stream = live();
    stream.handle(at(0), StreamInput::Lost(Lost::Link));
    stream.handle(at(1), StreamInput::Refused(RefusalReason::NoCapacity));
    stream.handle(stream.deadline().unwrap(), StreamInput::Tick);
    let full = LadderChoice::Full;
    assert_eq!(said(&mut stream), [place(2, full), place(3, full)]);
}

#[test]
fn a_ladder_that_follows_another_picture_into_a_full_farm_becomes_passthrough() {
    let mut stream = live();
    stream.handle(at(1), StreamInput::Lost(Lost::Reshaped));
    stream.handle(at(2), StreamInput::Refused(RefusalReason::NoCapacity));
    stream.handle(at(3), StreamInput::Refused(RefusalReason::NoCapacity));
    let (full, passthrough) = (LadderChoice::Full, LadderChoice::Passthrough);
    assert_eq!(said(&mut stream), [place(2, full), place(3, passthrough)]);
    stream.handle(stream.deadline().unwrap(), StreamInput::Tick);
    assert_eq!(said(&mut stream), [place(4, passthrough)], "a live stream is never given up");
}

#[test]
fn a_publisher_that_returns_within_thirty_seconds_keeps_its_stream() {
    let mut stream = live();
    stream.handle(at(0), StreamInput::PublisherLeft);
    stream.handle(at(29_999), StreamInput::Tick);
    stream.handle(at(29_999), StreamInput::PublisherJoined);
    stream.handle(at(90_000), StreamInput::Tick);
    assert!(stream.is_live() && said(&mut stream).is_empty());
}

#[test]
fn a_stream_that_another_router_owns_is_let_go_without_an_end() {
    let told = StreamInput::TakenOver;
    let refused = StreamInput::Refused(RefusalReason::Fenced);
    for (found_out, lost_first) in [(told.clone(), false), (told, true), (refused, true)] {
        let mut stream = live();
        if lost_first {
            stream.handle(at(0), StreamInput::Lost(Lost::Link));
            said(&mut stream);
        }
        stream.handle(at(1), found_out);
        let turned_away = StreamOutput::RefusePublisher(RefusalReason::TakenOver);
        assert_eq!(said(&mut stream), [turned_away, StreamOutput::Close]);
    }
}

#[test]
fn each_placement_is_above_every_epoch_that_a_node_was_asked_under() {
    let mut stream = live();
    stream.used(Epoch { generation: 1, placement: 4 });
    stream.handle(at(0), StreamInput::Lost(Lost::Link));
    assert_eq!(said(&mut stream), [place(5, LadderChoice::Full)]);
}

#[test]
fn a_first_publisher_of_another_codec_ends_its_stream_at_once_wherever_it_stands() {
    use {RefusalReason as R, StreamInput as I, StreamOutput as O};
    let mp3 = I::SourceRefused(R::AudioCodec);
    let mut waiting = Stream::new(at(0), Epoch::default());
    waiting.handle(at(0), I::PublisherJoined);
    waiting.handle(at(1), mp3.clone());
    assert_eq!(said(&mut waiting), [O::Close], "no node was asked");

    for (answer, end) in [(I::Admitted, O::Finish), (I::Refused(R::NoCapacity), O::Close)] {
        let mut placing = Stream::new(at(0), Epoch::default());
        placing.handle(at(0), I::PublisherJoined);
        placing.handle(at(0), I::SourceKnown);
        placing.handle(at(1), mp3.clone());
        assert_eq!(said(&mut placing).len(), 1, "the node's answer is waited for");
        placing.handle(at(2), answer);
        assert_eq!(said(&mut placing), [end]);
    }

    let mut stream = live();
    stream.handle(at(1), I::SourceRefused(R::Undecodable));
    assert_eq!(said(&mut stream), [], "another connection may heal it");
    stream.handle(at(2), mp3);
    assert_eq!(said(&mut stream), [O::Finish]);
    stream.handle(at(3), I::Finished);
    assert_eq!(said(&mut stream), [O::Close]);
}

#[test]
fn a_stream_whose_channel_is_gone_ends_at_once_with_and_without_its_publisher() {
    for is_away in [false, true] {
        let mut stream = live();
        if is_away {
            stream.handle(at(1), StreamInput::PublisherLeft);
            stream.handle(at(2), StreamInput::PublisherJoined);
            stream.handle(at(3), StreamInput::PublisherLeft);
        }
        stream.handle(at(4), StreamInput::ChannelGone);
        assert_eq!(said(&mut stream), [StreamOutput::Finish]);
    }
}

#[test]
fn a_later_publisher_of_another_codec_leaves_the_stream_to_who_comes_back() {
    let mut stream = live();
    stream.handle(at(1), StreamInput::PublisherLeft);
    stream.handle(at(2), StreamInput::PublisherJoined);
    stream.handle(at(3), StreamInput::SourceRefused(RefusalReason::AudioCodec));
    stream.handle(at(3), StreamInput::PublisherLeft);
    assert!(stream.is_live() && said(&mut stream).is_empty());
    assert_eq!(stream.deadline(), Some(at(30_003)));
}

#[test]
fn a_publisher_that_stays_away_ends_its_stream_after_the_flush() {
    let mut stream = live();
    stream.handle(at(0), StreamInput::PublisherLeft);
    stream.handle(stream.deadline().unwrap(), StreamInput::Tick);
    assert_eq!(said(&mut stream), [StreamOutput::Finish]);
    stream.handle(at(31_000), StreamInput::Finished);
    assert_eq!(said(&mut stream), [StreamOutput::Close]);
}

#[test]
fn a_stream_that_lacks_room_asks_for_all_rungs_at_its_next_ladder_once_there_is_room() {
    let (full, passthrough) = (LadderChoice::Full, LadderChoice::Passthrough);
    let mut stream = Stream::new(at(0), Epoch { generation: 1, placement: 0 });
    let no_room = StreamInput::Refused(RefusalReason::NoCapacity);
    for input in [StreamInput::PublisherJoined, StreamInput::SourceKnown, no_room.clone()] {
        stream.handle(at(0), input);
    }
    stream.handle(at(0), StreamInput::Admitted);
    assert_eq!(said(&mut stream), [place(1, full), place(2, passthrough)]);
    assert!(stream.lacks_room() && !stream.is_full());
    stream.handle(at(0), StreamInput::RoomCameBack);
    assert!(!stream.lacks_room() && stream.is_full());
    assert_eq!(said(&mut stream), [], "what there is goes on until the ladder changes");
    // There was no room after all: as before.
    stream.handle(at(0), StreamInput::Lost(Lost::Reshaped));
    stream.handle(at(0), no_room);
    stream.handle(at(0), StreamInput::Admitted);
    assert_eq!(said(&mut stream), [place(3, full), place(4, passthrough)]);
    assert!(stream.lacks_room());
}

#[test]
fn room_gives_no_ladder_back_to_a_stream_that_kills_its_encoders() {
    let mut stream = live();
    stream.handle(at(0), worker(EndReason::Bug, "a"));
    stream.handle(at(0), StreamInput::Admitted);
    stream.handle(at(0), worker(EndReason::KilledSignal, "b"));
    stream.handle(stream.deadline().unwrap(), StreamInput::Tick);
    stream.handle(at(100), StreamInput::Admitted);
    stream.handle(at(100), StreamInput::RoomCameBack);
    assert!(!stream.lacks_room() && !stream.is_full());
}
