//! What stands in the place of a file, and what files are called.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

/// Puts one of each into `folder`; a socket lives as long as what is returned.
pub(super) fn put(folder: &Path, image: &[u8]) -> UnixListener {
    let at = |name: &str| folder.join(name);
    assert!(Command::new("mkfifo").arg(at("fifo.png")).status().unwrap().success());
    symlink("fifo.png", at("link-to-fifo.png")).unwrap();
    for (name, to) in [
        ("zero.png", "/dev/zero"),
        ("full.dcm", "/dev/full"),
        ("terminal.png", "/dev/tty"),
        ("memory.png", "/proc/self/mem"),
        ("endless.png", "/proc/kmsg"),
        ("nowhere.png", "no/such/file.png"),
        ("round.png", "about.png"),
        ("about.png", "round.png"),
        ("up", ".."),
    ] {
        symlink(to, at(name)).unwrap();
    }
    fs::create_dir(at("folder.png")).unwrap();
    fs::write(at("locked.png"), image).unwrap();
    fs::set_permissions(at("locked.png"), fs::Permissions::from_mode(0o000)).unwrap();
    for name in [
        &b"not-utf8-\xff\xfe.png"[..],
        b"lines\nerror: all is lost.png",
        b"escape\x1b[2J\x1b]0;owned\x07.png",
        b"spaces and 'quotes\" $(id) `id`;.png",
        b"-rf.png",
        b"\xe2\x80\xae gnp.png",
        &[b'n'; 250],
    ] {
        fs::write(folder.join(OsStr::from_bytes(name)), b"no image").unwrap();
    }
    UnixListener::bind(at("socket.png")).unwrap()
}
