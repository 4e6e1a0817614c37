//! Writing: a header first, every part at its place, shard by shard, and a rename at the end.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use quant_model::io::{
    self, Data, Destination, Inputs, PreallocatedFile, TemporaryFile, TemporaryFolder,
    group_and_others, parent, sync_for,
};
use quant_model::{Error, Job, Large};
use quant_simd::{Sink, Source as _};

use super::companions;
use super::encodings::{Document, OutputFile, PartOffset, Written};
use super::part::Part;
use super::replaceable::own_files;
use crate::{Entry, Model, SafetensorsFile};

/// A file that is to be written: its header, and where its tensors go.
pub(crate) struct Layout<'j> {
    header: Vec<u8>,
    places: Large<'j, BTreeMap<String, (usize, usize)>>,
    data_len: usize,
}

impl<'j> Layout<'j> {
    pub fn new(file: &OutputFile<'_>, job: &Job<'j>) -> Result<Self, Error> {
        Self::from_parts(&file.metadata, file.parts.clone(), job)
    }

    fn from_parts(
        metadata: &BTreeMap<String, String>,
        mut parts: Vec<Part>,
        job: &Job<'j>,
    ) -> Result<Self, Error> {
        // The widest types first, so that every tensor is aligned; readers rely on it.
        parts.sort_by_key(|part| std::cmp::Reverse(width(part)));
        let mut places = Large::new(BTreeMap::new(), job);
        let (mut header, mut end) = (b"{".to_vec(), 0_usize);
        let mut put = |name: &str, value: &dyn Fn(&mut Vec<u8>) -> serde_json::Result<()>| {
            if header.len() > 1 {
                header.push(b',');
            }
            serde_json::to_writer(&mut header, name)?;
            header.push(b':');
            value(&mut header)
        };
        let written = |result: serde_json::Result<()>| {
            result.map_err(|error| Error::Option(format!("cannot write a header: {error}")))
        };
        if !metadata.is_empty() {
            written(put("__metadata__", &|header| {
                serde_json::to_writer(header, metadata)
            }))?;
        }
        for part in parts {
            job.check()?;
            let entry = Entry {
                dtype: part.dtype,
                shape: part.shape,
                data_offsets: (end, end + part.len),
            };
            written(put(&part.name, &|header| {
                serde_json::to_writer(header, &entry)
            }))?;
            places.insert(part.name, (end, part.len));
            end += part.len;
        }
        header.push(b'}');
        header.resize(header.len().next_multiple_of(8), b' ');
        Ok(Self {
            header,
            places,
            data_len: end,
        })
    }

    fn data_start(&self) -> u64 {
        8 + self.header.len() as u64
    }

    /// Bytes of the file.
    pub fn len(&self) -> u64 {
        self.data_start() + self.data_len as u64
    }
}

impl Written {
    /// Adds a file.
    pub fn add(&mut self, name: &OsStr, layout: Layout<'_>) {
        self.tensor_bytes += layout.data_len;
        let shown = name.to_string_lossy();
        let tensors = layout.places.into_inner().into_keys();
        self.weight_map
            .extend(tensors.map(|tensor| (tensor, shown.clone().into_owned())));
    }
}

/// Where the result will stand.
pub(crate) struct Target<'a> {
    model: &'a Model,
    destination: Destination,
    folder: Option<TemporaryFolder>,
    /// A model of one file.
    file: Option<TemporaryFile>,
    written: Written,
    /// Bytes of the files.
    bytes: u64,
    /// See [`Job::sync`].
    sync: bool,
    /// What the user should know, a line each.
    pub warnings: Vec<String>,
    /// The files beside the weights that were copied.
    pub copied: Vec<String>,
}

impl<'a> Target<'a> {
    /// Refuses what exists, or has to do with `inputs`, and what the disk has no room for; nothing
    /// is replaced before `finish`.
    pub fn new(
        model: &'a Model,
        inputs: &Inputs,
        layouts: &[Layout],
        path: &Path,
        job: &Job<'_>,
    ) -> Result<Self, Error> {
        let destination = match &model.base.folder {
            None => Destination::file(path, "output", job.force, inputs),
            Some(input) => {
                let own = |folder: &Path| own_files(folder, input);
                Destination::folder(path, job.force, inputs, own)
            }
        };
        let destination = destination?.with_sync(job.sync);
        let warnings = io::clean(parent(destination.path()));
        io::check_room(destination.path(), layouts.iter().map(Layout::len).sum())?;
        let folder = match &model.base.folder {
            None => None,
            Some(input) => {
                let input = fs::metadata(input);
                let others = input.map_or(0, |input| group_and_others(&input));
                Some(TemporaryFolder::new(destination.path(), others)?)
            }
        };
        Ok(Self {
            model,
            destination,
            folder,
            file: None,
            written: Written::default(),
            bytes: 0,
            sync: job.sync,
            warnings,
            copied: Vec::new(),
        })
    }

    /// A file for one shard, its header written.
    pub fn begin<'j>(
        &self,
        input: &SafetensorsFile,
        layout: Layout<'j>,
    ) -> Result<Output<'j>, Error> {
        let path = self.destination.path();
        let folder = match &self.folder {
            Some(folder) => folder.path(),
            None => parent(path),
        };
        let meta = fs::metadata(input.path());
        let others = meta.map_or(0, |input| group_and_others(&input));
        let temporary = TemporaryFile::new(folder, path, others)?;
        let file = temporary.file().try_clone();
        let file = file.and_then(|file| PreallocatedFile::new(file, layout.len(), self.sync));
        let output = Output {
            path: path.to_owned(),
            file: file.map_err(Error::io(path, "write it"))?,
            temporary,
            layout,
        };
        let length = (output.layout.header.len() as u64).to_le_bytes();
        output.write(0, &length)?;
        output.write(8, &output.layout.header)?;
        Ok(output)
    }

    /// A shard is whole: it goes to the disk, gets its name in the folder, and is closed.
    pub fn end(&mut self, name: &OsStr, output: Output<'_>, job: &Job<'_>) -> Result<(), Error> {
        let path = self.destination.path();
        let Output {
            temporary,
            file,
            layout,
            ..
        } = output;
        file.finish().map_err(Error::io(path, "sync it"))?;
        self.bytes += layout.len();
        job.check()?;
        let Some(folder) = &self.folder else {
            self.file = Some(temporary);
            return Ok(());
        };
        self.written.add(name, layout);
        let named = fs::rename(temporary.path(), folder.path().join(name));
        named.map_err(Error::io(path, "put it in place"))?;
        temporary.forget();
        Ok(())
    }

    /// Copies what a loader needs beside the weights, but for what is written otherwise.
    pub fn copy_companions(
        &mut self,
        is_written: &dyn Fn(&str) -> bool,
        job: &Job<'_>,
    ) -> Result<(), Error> {
        let (Some(folder), Some(input)) = (&self.folder, &self.model.base.folder) else {
            return Ok(());
        };
        let (copied, warnings) = companions::copy(input, folder.path(), is_written, job)?;
        self.copied = copied;
        self.warnings.extend(warnings);
        Ok(())
    }

    /// Gives the result its name, and returns the bytes of its weights.
    ///
    /// # Errors
    /// What was written cannot be read again; then there is no output.
    pub fn finish(mut self, job: &Job<'_>) -> Result<u64, Error> {
        job.check()?;
        if let Some(file) = self.file.take() {
            self.check_written(file.path(), job)?;
            job.check()?;
            self.destination.put_file(file)?;
        }
        let Some(folder) = self.folder.take() else {
            return Ok(self.bytes);
        };
        self.check_written(folder.path(), job)?;
        sync_for(job, folder.path()).map_err(Error::io(self.destination.path(), "sync it"))?;
        job.check()?;
        self.destination.put_folder(folder)?;
        Ok(self.bytes)
    }

    /// Opens what was written as any reader would.
    fn check_written(&self, written: &Path, job: &Job<'_>) -> Result<(), Error> {
        let model = Model::open_for(written, job).map(|model| Large::new(model, job));
        let model = model.and_then(|model| model.tensors_for(job).map(drop));
        job.check()?;
        model.map_err(|error| {
            let problem = format!(
                "what was written cannot be read again ({error}), so there is no output; this is a fault of quant, please report it"
            );
            Error::file(self.destination.path(), problem)
        })
    }

    /// Writes the small files that describe the weights.
    pub fn write_documents(
        &mut self,
        documents: impl FnOnce(&Written) -> Result<Vec<Document>, Error>,
    ) -> Result<(), Error> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        self.written.weight_map.sort();
        for document in documents(&self.written)? {
            let input = document.like.and_then(|like| fs::metadata(like).ok());
            let others = input.map_or(0, |input| group_and_others(&input));
            let path = folder.path().join(&document.name);
            let written = io::create(&path, others).and_then(|mut file| {
                file.write_all(document.text.as_bytes())
                    .and_then(|()| match self.sync {
                        true => file.sync_all(),
                        false => Ok(()),
                    })
            });
            written.map_err(Error::io(self.destination.path(), "write its index"))?;
        }
        Ok(())
    }
}

fn width(part: &Part) -> usize {
    let elements: usize = part.shape.iter().product();
    part.len.checked_div(elements).unwrap_or(0)
}

/// A file being written, under a temporary name.
pub(crate) struct Output<'j> {
    path: std::path::PathBuf,
    temporary: TemporaryFile,
    file: PreallocatedFile,
    layout: Layout<'j>,
}

impl Output<'_> {
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.file
            .write_at(bytes, offset)
            .map_err(Error::io(&self.path, "write it"))
    }

    /// Writes some bytes of a tensor.
    pub fn write_part(&self, name: &str, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        let (start, len) = self.layout.places[name];
        assert!(offset + bytes.len() <= len, "inside the tensor");
        self.write(self.layout.data_start() + (start + offset) as u64, bytes)
    }

    /// Copies a tensor that is left as it is.
    pub fn copy(&self, to: &PartOffset, data: &Data<'_>, job: &Job<'_>) -> Result<(), Error> {
        const STEP: usize = 1 << 20;
        let mut buffer = vec![0; STEP.min(data.len())];
        for start in (0..data.len()).step_by(STEP) {
            job.check()?;
            let piece = &mut buffer[..STEP.min(data.len() - start)];
            data.read(start, piece)?;
            self.write_part(&to.part, to.offset + start, piece)?;
            (job.progress)(piece.len() as u64);
        }
        Ok(())
    }
}

/// Takes the parts of a tensor.
pub(crate) struct PartSink<'a> {
    pub output: &'a Output<'a>,
    pub job: &'a Job<'a>,
    pub codes: &'a PartOffset,
    pub scales: Option<&'a PartOffset>,
    /// Of zero points or biases.
    pub offsets: Option<&'a PartOffset>,
    /// Where these are gathered instead.
    pub gathered: Option<&'a Mutex<Vec<u8>>>,
    /// Input bytes for `numerator / denominator` bytes of codes.
    pub per_code_byte: (u64, u64),
}

impl PartSink<'_> {
    /// What has no place is left out.
    fn put(&self, place: Option<&PartOffset>, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        match place {
            None => Ok(()),
            Some(place) => self
                .output
                .write_part(&place.part, place.offset + offset, bytes),
        }
    }
}

impl Sink for PartSink<'_> {
    type Error = Error;
    fn codes(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        self.job.check()?;
        self.put(Some(self.codes), offset, bytes)?;
        let (numerator, denominator) = self.per_code_byte;
        (self.job.progress)(bytes.len() as u64 * numerator / denominator);
        Ok(())
    }
    fn scales(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        self.put(self.scales, offset, bytes)
    }
    fn zero_points(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        if let Some(gathered) = self.gathered {
            let mut gathered = gathered.lock().unwrap_or_else(PoisonError::into_inner);
            gathered[offset..offset + bytes.len()].copy_from_slice(bytes);
            return Ok(());
        }
        self.put(self.offsets, offset, bytes)
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn part(name: &str, shape: &[usize], len: usize) -> Part {
        Part {
            name: name.into(),
            dtype: "F32".into(),
            shape: shape.to_vec(),
            len,
        }
    }

    /// As if a later change of the writer had a fault.
    #[test]
    fn what_cannot_be_read_again_is_no_output() {
        let folder = tempfile::tempdir().unwrap();
        let job = Job::UNWATCHED.with_force(true);
        let header = br#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header);
        file.extend([0; 4]);
        let single = folder.path().join("m");
        fs::create_dir(&single).unwrap();
        fs::write(single.join("m.safetensors"), &file).unwrap();
        for input in [single.join("m.safetensors"), single] {
            let model = Model::open(&input).unwrap();
            for (shape, reads) in [([1], true), ([2], false)] {
                let output = folder.path().join("out");
                let parts = vec![part("w", &shape, 4)];
                let layouts = [Layout::from_parts(&BTreeMap::new(), parts, &job).unwrap()];
                let inputs = Inputs::of_model(&input);
                let mut target = Target::new(&model, &inputs, &layouts, &output, &job).unwrap();
                for (file, layout) in model.base.files.iter().zip(layouts) {
                    let written = target.begin(file, layout).unwrap();
                    target
                        .end(file.path().file_name().unwrap(), written, &job)
                        .unwrap();
                }
                let done = target.finish(&job);
                assert_eq!((done.is_ok(), output.exists()), (reads, reads), "{done:?}");
                match done {
                    Ok(_) if output.is_dir() => fs::remove_dir_all(&output).unwrap(),
                    Ok(_) => fs::remove_file(&output).unwrap(),
                    Err(error) => assert!(error.to_string().contains("cannot be read again")),
                }
                assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
            }
        }
    }
}
