//! Whether all of a model that is quantized can be restored: some of it would be a model of floats
//! among which are codes, and nobody would see it.

use std::collections::HashSet;

use quant_model::error::shortened;
use quant_model::{Error, Job};

use super::encodings::Unread;
use super::foreign::Foreign;
use crate::Model;

impl Model {
    /// Refuses a model of which some quantized tensor would stay as it is, though others are restored:
    /// what its description says is quantized must be read, and what names and types say.
    ///
    /// # Errors
    /// The first such tensor, and what to do.
    pub(crate) fn check_restorable(&self, job: &Job<'_>) -> Result<(), Error> {
        let foreign = match self.unread().next().is_none() && self.is_quantized() {
            true => self.foreign(job)?,
            false => Vec::new(),
        };
        let mut left = self.unread().chain(&foreign);
        let Some(first) = left.next() else {
            return Ok(());
        };
        let more = match left.count() {
            0 => "",
            1 => "; so is one more tensor",
            more => &format!("; so are {more} more tensors"),
        };
        let problem = format!("not restored: {}{more}", first.problem);
        Err(Error::tensor(&first.file, &shortened(&first.name), problem))
    }

    /// What names and types say is quantized, and is not read.
    pub(crate) fn foreign(&self, job: &Job<'_>) -> Result<Vec<Unread>, Error> {
        let foreign = Foreign::find(self, job)?;
        Ok(foreign.besides(self, &self.names_of_codes(job)?))
    }

    /// Of the tensors that are read, as they are in the files.
    fn names_of_codes(&self, job: &Job<'_>) -> Result<HashSet<String>, Error> {
        let records = self.records().map(|(name, encoding, record)| {
            job.check()?;
            Ok(self.parts(name, encoding, record)?.1.codes.name)
        });
        records.collect()
    }
}
