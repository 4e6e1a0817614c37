//! A model that has been read: its file, what the program refers to, and the program.

use std::path::Path;

use crate::bytecode::{Bytecode, Kind};
use crate::graph::{Graph, Weight};
use crate::program::{self, Block, Limits};
use crate::tables::Tables;
use crate::types::{ConstantValue, TensorType};
use quant_model::Error;
use quant_model::io::Data;

/// The file of the program, with its weights.
pub(crate) const PROGRAM: &str = "main.mlirb";

/// What has been read, with the values of weights in the file.
#[derive(Debug)]
pub(crate) struct Model<'a> {
    /// The folder.
    pub path: &'a Path,
    pub file: &'a Bytecode,
    pub tables: &'a Tables<'a>,
    pub program: &'a Block<'a>,
    pub graph: Graph<'a, 'a>,
}

/// Reads a model for as long as `work` takes.
pub(crate) fn with_model<T>(
    path: &Path,
    file: &Bytecode,
    work: impl FnOnce(&Model<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let tables = Tables::read(file)?;
    let limits = Limits {
        operations: tables.operations.len(),
        attributes: tables.attributes.len(),
        types: tables.types.len(),
        properties: tables.properties.len(),
    };
    let bad = |problem: String| {
        let problem = format!("its program {problem}; the file is damaged, fetch it again");
        Error::file(file.file.path(), problem)
    };
    let program = program::read(file.body(Kind::Program), limits).map_err(bad)?;
    let graph = Graph::new(&tables, &program).map_err(bad)?;
    work(&Model {
        path,
        file,
        tables: &tables,
        program: &program,
        graph,
    })
}

impl Model<'_> {
    /// The bytes of a resource, where it is bytes.
    pub fn resource(&self, number: usize) -> Option<Data<'_>> {
        let blob = self.tables.resources[number].blob?;
        let len = usize::try_from(blob.len).ok()?;
        Some(self.file.file.data(blob.start, len))
    }

    /// A type, in words that do not depend on the numbers of other types.
    pub fn described(&self, kind: usize) -> String {
        match TensorType::read(self.tables, kind) {
            Some(kind) => format!("{} {:?}", kind.element.name(), kind.shape),
            None => "another type".into(),
        }
    }

    /// The values of a constant that stands in the file and has as many bytes as its type says.
    pub fn data(&self, weight: &Weight<'_>) -> Option<Data<'_>> {
        let Some(ConstantValue::Resource(number)) = weight.payload else {
            return None;
        };
        let data = self.resource(number)?;
        let len = weight.kind.element.storage_len(weight.kind.count);
        (Some(data.len()) == len).then_some(data)
    }
}
