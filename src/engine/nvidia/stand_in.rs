//! A driver for machines that have none: cuDNN asks for one to compile attention, and calls nothing but that.

use super::libraries::{Library, Name};
use std::path::Path;
use std::process::Command;

const SOURCE: &str = include_str!("stand_in.c");

/// Sees to it that a driver is loaded: the machine's, or a stand-in that a C compiler makes in `folder`.
pub fn drive(folder: &Path) -> Result<(), String> {
    if Library::open(Name::Cuda).is_ok() {
        return Ok(());
    }
    let name = format!("stand-in-{}", &blake3::hash(SOURCE.as_bytes()).to_hex()[..16]);
    let folder = folder.join(name);
    let library = folder.join("libcuda.so.1");
    if !library.exists() {
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let source = folder.join("libcuda.c");
        let beside = folder.join(format!("{}.partial", std::process::id()));
        std::fs::write(&source, SOURCE).map_err(|error| error.to_string())?;
        let mut compiler = Command::new("cc");
        compiler.args(["-w", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o"]);
        let built = compiler.arg(&beside).arg(&source).status();
        if !built.is_ok_and(|status| status.success()) {
            return Err(
                "there is no driver, and no C compiler to make a stand-in for it".to_owned()
            );
        }
        std::fs::rename(&beside, &library).map_err(|error| error.to_string())?;
    }
    Library::open_at(&library).map(|_| ()).map_err(|fault| fault.to_string())
}
