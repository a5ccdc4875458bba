//! OBS Studio, with its defaults, on a virtual display.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use millrace_router::ingest::MessageKind;
use tokio::{process::Command, time::timeout};

use crate::farm::{Farm, PATIENCE, next_media};

/// A home directory in which OBS finds a profile that streams to the farm.
fn home_for(farm: &Farm) -> PathBuf {
    let home = std::env::temp_dir().join(format!("millrace-obs-{}", std::process::id()));
    let profile = home.join(".config/obs-studio/basic/profiles/Test");
    fs::create_dir_all(&profile).expect("a directory");
    let settings = "[General]\nFirstRun=true\nLastVersion=486539264\n[Basic]\nProfile=Test\nProfileDir=Test\nSceneCollection=Test\nSceneCollectionFile=Test\n";
    fs::write(home.join(".config/obs-studio/global.ini"), settings).expect("written");
    let basic = "[General]\nName=Test\n[Output]\nMode=Simple\n[SimpleOutput]\nVBitrate=500\n\
                 [Video]\nBaseCX=640\nBaseCY=360\nOutputCX=640\nOutputCY=360\nFPSCommon=30\n";
    fs::write(profile.join("basic.ini"), basic).expect("written");
    // Without a scene of old OBS makes one, and forgets that it was told to stream.
    let scenes = home.join(".config/obs-studio/basic/scenes");
    fs::create_dir_all(&scenes).expect("a directory");
    let scene = r#"{"name":"Test","current_scene":"Scene","current_program_scene":"Scene",
        "scene_order":[{"name":"Scene"}],"sources":[{"id":"scene","name":"Scene","settings":{}}]}"#;
    fs::write(scenes.join("Test.json"), scene).expect("written");
    let (address, key) = (farm.address, farm.key.reveal());
    let service = format!(
        r#"{{"type":"rtmp_custom","settings":{{"server":"rtmp://{address}/live","key":"{key}"}}}}"#
    );
    fs::write(profile.join("service.json"), service).expect("written");
    home
}

fn obs(home: &Path) -> Command {
    let mut command = Command::new("xvfb-run");
    command.args(["-a", "-s", "-screen 0 1280x720x24", "obs", "--multi", "--startstreaming"]);
    command.args(["--profile", "Test", "--disable-updater", "--disable-missing-files-check"]);
    command.env("HOME", home).env("LIBGL_ALWAYS_SOFTWARE", "1").env_remove("XDG_CONFIG_HOME");
    command.kill_on_drop(true).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[tokio::test]
#[ignore = "needs OBS Studio and Xvfb: apt-get install obs-studio xvfb xauth"]
async fn obs_publishes_video_and_audio() {
    let mut farm = Farm::start().await;
    let home = home_for(&farm);
    let mut encoder = obs(&home).spawn().expect("xvfb-run and obs are installed");
    let group = encoder.id().expect("it runs");
    let publish = async {
        let (_, mut publication) = farm.publications.recv().await.expect("the ingest runs");
        let (mut video, mut audio) = (0, 0);
        while video < 60 || audio < 60 {
            match next_media(&mut publication).await.kind {
                MessageKind::Video => video += 1,
                MessageKind::Audio => audio += 1,
                MessageKind::Metadata => {}
            }
        }
    };
    let published = timeout(2 * PATIENCE, publish).await;
    // The display, OBS and what they started share one process group.
    let kill = Command::new("kill").args(["--", &format!("-{group}")]).status().await;
    assert!(kill.expect("kill runs").success());
    encoder.wait().await.expect("it ends");
    fs::remove_dir_all(home).expect("removed");
    published.expect("two seconds of video and audio in time");
}
