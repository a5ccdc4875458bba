//! OBS Studio with its defaults on a virtual display: it plays a stamped clip in its scene and streams the scene.
//!
//! OBS draws its scene by its own clock, so a frame of the clip may be shown twice or not at all; none comes out of order.

use std::{fs, path::Path, process::Stdio, time::Duration};

use millrace_testkit::{
    ClipSpec, Player, PlayerOptions, RenditionFindings, Scratch, VideoFindings, check,
};
use millrace_tests::Channel;
use serde_json::json;
use tokio::process::Command;

use crate::ingest::stage::{PATIENCE, farm, program};

const VERSION_29: u32 = 29 << 24;

/// A home directory in which OBS finds a profile that streams to the channel, and a scene that shows the clip.
fn home(channel: &Channel, clip: &Path) -> Scratch {
    let home = Scratch::new("obs").expect("a directory");
    let root = home.path().join(".config/obs-studio");
    let (profile, scenes) = (root.join("basic/profiles/Test"), root.join("basic/scenes"));
    for directory in [&profile, &scenes] {
        fs::create_dir_all(directory).expect("a directory");
    }
    let global = format!(
        "[General]\nFirstRun=true\nLastVersion={VERSION_29}\n[Basic]\nProfile=Test\nProfileDir=Test\n\
         SceneCollection=Test\nSceneCollectionFile=Test\n"
    );
    let basic = "[General]\nName=Test\n[Output]\nMode=Simple\n[SimpleOutput]\nVBitrate=800\n\
        [Video]\nBaseCX=640\nBaseCY=360\nOutputCX=640\nOutputCY=360\nFPSCommon=30\n";
    let (server, key) = channel.rtmp_url.rsplit_once('/').expect("a key");
    let service = json!({"type": "rtmp_custom", "settings": {"server": server, "key": key}});
    let shown = json!({"name": "Clip", "id": 1, "visible": true, "align": 5, "bounds_type": 0,
        "pos": {"x": 0.0, "y": 0.0}, "scale": {"x": 1.0, "y": 1.0}});
    let media =
        json!({"local_file": clip, "is_local_file": true, "looping": false, "hw_decode": false});
    let scene = json!({
        "name": "Test", "current_scene": "Scene", "current_program_scene": "Scene",
        "scene_order": [{"name": "Scene"}],
        "sources": [
            {"id": "ffmpeg_source", "name": "Clip", "mixers": 255, "volume": 1.0, "settings": media},
            {"id": "scene", "name": "Scene", "settings": {"id_counter": 1, "items": [shown]}},
        ],
    });
    let files = [
        (root.join("global.ini"), global),
        (profile.join("basic.ini"), basic.to_owned()),
        (profile.join("service.json"), service.to_string()),
        (scenes.join("Test.json"), scene.to_string()),
    ];
    for (path, text) in files {
        fs::write(path, text).expect("written");
    }
    home
}

fn obs(home: &Path) -> Command {
    let arguments = "-a -- obs --multi --startstreaming --profile Test --disable-updater \
        --disable-missing-files-check";
    let mut command = program("xvfb-run", arguments);
    command.env("HOME", home).env("LIBGL_ALWAYS_SOFTWARE", "1").env_remove("XDG_CONFIG_HOME");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.process_group(0).kill_on_drop(true);
    command
}

#[tokio::test]
#[ignore = "needs OBS Studio and Xvfb: apt-get install obs-studio xvfb xauth"]
async fn obs_with_its_defaults_plays() {
    let clip = ClipSpec { seconds: 40, ..ClipSpec::default() };
    let (farm, file) = (farm().await, clip.file().expect("a clip"));
    let channel = farm.channel();
    let home = home(&channel, &file);
    let mut encoder = obs(home.path()).spawn().expect("xvfb-run and obs are installed");
    let group = encoder.id().expect("it runs");
    let patient = PlayerOptions { ready_within: PATIENCE, ..PlayerOptions::default() };
    let player = Player::start(&channel.playback_url, patient);
    let played = player.media(10.0, 2 * PATIENCE).await;
    // The display, OBS and what they started share one process group.
    let killed = program("kill", &format!("-- -{group}")).status().await;
    assert!(killed.expect("kill runs").success());
    tokio::time::timeout(Duration::from_secs(10), encoder.wait())
        .await
        .expect("ends")
        .expect("ran");
    played.expect("ten seconds");

    let recording = player.stop().await.expect("media");
    let report = check(&recording, &clip.expected().as_downloaded()).expect("decoded");
    println!("{report}");
    assert_eq!(report.renditions.len(), 3, "source, one encoded rung, sound");
    for rendition in &report.renditions {
        is_sound(rendition);
    }
    report.renditions.iter().filter_map(|rendition| rendition.video.as_ref()).for_each(is_in_order);
}

fn is_sound(rendition: &RenditionFindings) {
    let RenditionFindings { name, msn_holes, missing_parts, bad_parts, .. } = rendition;
    let RenditionFindings { violations, decode_errors, .. } = rendition;
    let faults = [msn_holes, missing_parts, bad_parts, violations, decode_errors];
    assert!(faults.into_iter().all(Vec::is_empty), "{name}: {faults:?}");
}

fn is_in_order(video: &VideoFindings) {
    assert!(video.out_of_order.is_empty(), "{:?}", video.out_of_order);
    assert!(video.pictures > 200, "{}", video.pictures);
    let odd = video.repeated.len() + video.missing.len();
    assert!(odd < video.pictures / 4, "{odd} of {} pictures", video.pictures);
    for av in &video.av {
        assert!(av.worst_ms.abs() < 200.0, "{} ms", av.worst_ms);
    }
}
