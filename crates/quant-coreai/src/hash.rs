//! `main.hash`: the SHA-256 of the program. coreai-core writes it and does not read it on Linux.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::model::{Model, PROGRAM};
use quant_model::io::{InputFile, Links, read_bounded};
use quant_model::{Error, Job};

pub(crate) const HASH: &str = "main.hash";
const LEN: usize = 32;
/// A longer one is read no further.
const LARGEST: u64 = 4096;
const STEP: usize = 1 << 20;

/// The hash of a program.
pub(crate) fn of(program: &InputFile, job: &Job<'_>) -> Result<[u8; LEN], Error> {
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; STEP]);
    for at in (0..program.len()).step_by(STEP) {
        job.check()?;
        let piece = &mut buffer[..STEP.min((program.len() - at) as usize)];
        program.read(at, piece)?;
        hash.update(piece);
    }
    Ok(hash.finalize().into())
}

/// Does work that reads the weights, while another thread finds out whether they are what was written.
/// Returns what the user should know, too.
///
/// # Errors
/// A program that is not what was written, whatever came of the work; what the work has met.
pub(crate) fn checked<T: Send>(
    model: &Model<'_>,
    job: &Job<'_>,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<(T, Option<String>), Error> {
    let (path, program) = (model.path, &model.file.file);
    let (done, check) = rayon::join(work, || check(path, program, job));
    // Damage may be why the work has failed.
    let told = check?;
    Ok((done?, told))
}

/// Compares a program with its hash. Returns what the user should know.
///
/// # Errors
/// They do not fit; a hash that is none.
pub(crate) fn check(
    path: &Path,
    program: &InputFile,
    job: &Job<'_>,
) -> Result<Option<String>, Error> {
    let file = path.join(HASH);
    if file.symlink_metadata().is_err() {
        return Ok(Some(format!(
            "no {HASH} in the model: damage to its weights would not have been noticed"
        )));
    }
    Links::new(path)?.inside_package(&file)?;
    let written = read_bounded(&file, LARGEST, "it should be the SHA-256 of the program")?;
    if written.len() != LEN {
        let problem = format!(
            "{} bytes, where the SHA-256 of {PROGRAM} has {LEN}; fetch the model again",
            written.len()
        );
        return Err(Error::file(&file, problem));
    }
    if of(program, job)?[..] != written[..] {
        let problem = format!(
            "its SHA-256 is not that in {HASH}, so it is damaged; fetch the model again, or remove {HASH} if the program was changed on purpose"
        );
        return Err(Error::file(program.path(), problem));
    }
    Ok(None)
}
