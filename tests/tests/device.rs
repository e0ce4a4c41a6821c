//! `get` onto a block device: a loop device, so only root can run these.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use ringtide_tests::content::{self, KIB, MIB};
use ringtide_tests::hostile::{Manner, Peer};
use ringtide_tests::process::Process;
use ringtide_tests::ringtide;
use ringtide_tests::scene::Scene;

/// A loop device over a file of its own; given back on drop.
struct LoopDevice {
    path: PathBuf,
    mounted: Option<PathBuf>,
}

impl LoopDevice {
    fn new(dir: &Path, len: u64) -> Self {
        let file = dir.join("device");
        File::create(&file).and_then(|file| file.set_len(len)).unwrap();
        let shown = run("losetup", &["--find", "--show", file.to_str().unwrap()]);
        Self { path: PathBuf::from(shown.trim()), mounted: None }
    }

    fn mount(&mut self, at: &Path) {
        run("mkfs.ext4", &["-q", self.path.to_str().unwrap()]);
        std::fs::create_dir_all(at).unwrap();
        run("mount", &[self.path.to_str().unwrap(), at.to_str().unwrap()]);
        self.mounted = Some(at.to_owned());
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        if let Some(at) = &self.mounted {
            let _ = Command::new("umount").arg(at).status();
        }
        let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn get_onto(device: &Path, scene: &Scene, peers: &[Peer], arguments: &[&str]) -> Process {
    let mut command = ringtide::command("get");
    command.arg(&scene.torrent.path).arg("-o").arg(device).args(arguments);
    for peer in peers {
        command.arg("--peer").arg(peer.addr().to_string());
    }
    ringtide::spawn(command, scene.dir.path())
}

fn image_arrives(arguments: &[&str]) {
    let scene = Scene::new(48 * MIB + 1000, 256 * KIB);
    let device = LoopDevice::new(scene.dir.path(), 64 * MIB);
    let peers = scene.peers(&[Manner::Honest]);
    get_onto(&device.path, &scene, &peers, arguments).wait_success();
    assert_eq!(content::first_difference(&scene.image, &device.path), None);
    // Once more: all of it is found there, and nothing is fetched.
    let sent = peers[0].blocks_sent();
    get_onto(&device.path, &scene, &peers, arguments).wait_success();
    assert_eq!(peers[0].blocks_sent(), sent);
}

#[test]
fn an_image_arrives_on_a_device_by_uring() {
    image_arrives(&["--io", "uring"]);
}

#[test]
fn an_image_arrives_on_a_device_by_epoll() {
    image_arrives(&["--io", "epoll"]);
}

fn assert_refused(device: &LoopDevice, scene: &Scene, codes: [i32; 2]) {
    let peers = scene.peers(&[Manner::Honest]);
    let mut get = get_onto(&device.path, scene, &peers, &[]);
    let code = get.wait().code();
    assert!(code.is_some_and(|code| codes.contains(&code)), "{code:?}: {}", get.stderr());
    assert!(get.stderr().contains(device.path.to_str().unwrap()), "{}", get.stderr());
    assert_eq!(peers[0].blocks_sent(), 0);
}

#[test]
fn a_device_that_is_too_small_is_refused() {
    let scene = Scene::new(8 * MIB + 1, 256 * KIB);
    let device = LoopDevice::new(scene.dir.path(), 8 * MIB);
    assert_refused(&device, &scene, [7, 3]);
}

#[test]
fn a_mounted_device_is_refused() {
    let scene = Scene::new(8 * MIB, 256 * KIB);
    let mut device = LoopDevice::new(scene.dir.path(), 64 * MIB);
    device.mount(&scene.dir.path().join("mounted"));
    assert_refused(&device, &scene, [3, 8]);
}
