//! Reads `model.mlmodel`: an ML program, or a pipeline that holds some.

use std::collections::HashSet;

use super::program::{
    Binding, Blob, Block, Function, Named, Operation, Payload, Program, Stage, TensorType, Value,
};
use super::schema::{DataType, argument, block, function, map, model, named, operation, program};
use super::schema::{pipeline, types, value};
use super::wire::{Content, DEPTH, Field, entry, fields};

/// Reads the programs of a model, or says what is wrong with it.
pub(crate) fn read(bytes: &[u8]) -> Result<Program<'_>, String> {
    let mut reader = Reader::default();
    reader.model(bytes, &[], None)?;
    let program = reader.program;
    if !program.stages.is_empty() {
        return Ok(program);
    }
    let again = "convert the original model again with convert_to=\"mlprogram\"";
    let kinds: Vec<_> = program.others.iter().map(|(_, kind)| *kind).collect();
    Err(match (reader.is_pipeline, kinds.as_slice()) {
        (false, [kind]) => format!("{kind}, not an ML program; {again}"),
        (true, []) => "an empty pipeline; the model is damaged".into(),
        (true, kinds) => format!(
            "a pipeline of {} models, none of which is an ML program (the first is {}); {again}",
            kinds.len(),
            kinds[0]
        ),
        _ => "holds no model of a known kind; it is damaged, or no model.mlmodel".into(),
    })
}

/// A message that may stand only once: two of them would be merged by other readers.
fn once<'a>(place: &mut Option<&'a [u8]>, bytes: &'a [u8], what: &str) -> Result<(), String> {
    match place.replace(bytes) {
        None => Ok(()),
        Some(_) => Err(format!("its {what} appears twice")),
    }
}

#[derive(Default)]
struct Reader<'a> {
    operations: usize,
    is_pipeline: bool,
    program: Program<'a>,
    /// The first weight file of the stage being read.
    weights: Option<&'a str>,
}

impl<'a> Reader<'a> {
    /// `place` and `name` are those in the pipeline around it.
    fn model(
        &mut self,
        bytes: &'a [u8],
        place: &[usize],
        name: Option<&str>,
    ) -> Result<(), String> {
        if place.len() > DEPTH / 2 {
            return Err(format!(
                "pipelines within pipelines more than {} deep",
                DEPTH / 2
            ));
        }
        let (mut specification, mut kind) = (0, None);
        for field in fields(bytes) {
            let field = field?;
            match field.number {
                model::SPECIFICATION_VERSION => specification = field.varint()?,
                number if model::is_kind(number) => {
                    let bytes = field.bytes()?;
                    if kind.replace((number, bytes)).is_some() {
                        return Err("its program appears twice, or beside another model".into());
                    }
                }
                _ => {}
            }
        }
        match kind {
            Some((model::ML_PROGRAM, body)) => self.stage(body, specification, place, name),
            Some((model::PIPELINE, body)) => self.pipeline(body, place, name),
            Some((model::PIPELINE_CLASSIFIER | model::PIPELINE_REGRESSOR, body)) => {
                let mut inner = None;
                for field in fields(body) {
                    let field = field?;
                    if field.number == pipeline::OF_CLASSIFIER {
                        once(&mut inner, field.bytes()?, "pipeline")?;
                    }
                }
                self.pipeline(inner.unwrap_or_default(), place, name)
            }
            Some((number, _)) => {
                let name = name.unwrap_or_default().to_owned();
                let kind = model::other_kind(number).unwrap_or_default();
                self.program.others.push((name, kind));
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn pipeline(
        &mut self,
        bytes: &'a [u8],
        place: &[usize],
        name: Option<&str>,
    ) -> Result<(), String> {
        self.is_pipeline = true;
        let (mut models, mut names) = (Vec::new(), Vec::new());
        for field in fields(bytes) {
            let field = field?;
            match field.number {
                pipeline::MODELS => models.push(field.bytes()?),
                pipeline::NAMES => names.push(field.text()?),
                _ => {}
            }
        }
        // Names are of use only where each model has its own.
        let different: HashSet<_> = names.iter().filter(|name| !name.is_empty()).collect();
        let all_named = different.len() == models.len() && names.len() == models.len();
        for (index, model) in models.into_iter().enumerate() {
            let own = match all_named {
                true => names[index].to_owned(),
                false => index.to_string(),
            };
            let whole = match name {
                Some(outer) => format!("{outer}/{own}"),
                None => own,
            };
            let place = [place, &[index]].concat();
            let read = self.model(model, &place, Some(&whole));
            read.map_err(|problem| format!("model `{whole}` of the pipeline: {problem}"))?;
        }
        Ok(())
    }

    /// An ML program.
    fn stage(
        &mut self,
        body: &'a [u8],
        specification: u64,
        place: &[usize],
        name: Option<&str>,
    ) -> Result<(), String> {
        let stage = self.program.stages.len();
        let first = self.program.functions.len();
        let mut elsewhere = Vec::new();
        self.weights = None;
        for field in fields(body) {
            let field = field?;
            match field.number {
                program::FUNCTIONS => {
                    let (name, function) = entry(field.bytes()?)?;
                    let context = |problem| format!("function `{name}`: {problem}");
                    let read = self
                        .function(stage, name, function, &mut elsewhere)
                        .map_err(context)?;
                    let others = &self.program.functions[first..];
                    if others.iter().any(|other| other.name == name) {
                        return Err(context("appears twice".into()));
                    }
                    self.program.functions.push(read);
                }
                program::ATTRIBUTES => self.elsewhere(field.bytes()?, &mut elsewhere)?,
                _ => {}
            }
        }
        self.program.elsewhere.extend(elsewhere);
        self.program.stages.push(Stage {
            name: name.map(str::to_owned),
            place: place.to_vec(),
            specification,
            weights: self.weights,
        });
        Ok(())
    }

    fn function(
        &mut self,
        stage: usize,
        name: &'a str,
        bytes: &'a [u8],
        elsewhere: &mut Vec<Blob<'a>>,
    ) -> Result<Function<'a>, String> {
        let (mut inputs, mut blocks) = (Vec::new(), Vec::new());
        for field in fields(bytes) {
            let field = field?;
            match field.number {
                function::INPUTS => inputs.push(named_type(field.bytes()?)?),
                function::BLOCKS => {
                    let (opset, block) = entry(field.bytes()?)?;
                    blocks.push((opset, self.block(block, elsewhere, 4)?));
                }
                function::ATTRIBUTES => self.elsewhere(field.bytes()?, elsewhere)?,
                _ => {}
            }
        }
        Ok(Function {
            stage,
            name,
            inputs,
            blocks,
        })
    }

    fn block(
        &mut self,
        bytes: &'a [u8],
        elsewhere: &mut Vec<Blob<'a>>,
        depth: usize,
    ) -> Result<Block<'a>, String> {
        if depth > DEPTH {
            return Err(format!("messages within messages more than {DEPTH} deep"));
        }
        let (mut inputs, mut outputs, mut operations) = (Vec::new(), Vec::new(), Vec::new());
        for field in fields(bytes) {
            let field = field?;
            match field.number {
                block::INPUTS => inputs.push(named_type(field.bytes()?)?),
                block::OUTPUTS => outputs.push(field.text()?),
                block::OPERATIONS => {
                    operations.push(self.operation(field.bytes()?, elsewhere, depth + 1)?);
                }
                block::ATTRIBUTES => self.elsewhere(field.bytes()?, elsewhere)?,
                _ => {}
            }
        }
        Ok(Block {
            inputs,
            outputs,
            operations,
        })
    }

    fn operation(
        &mut self,
        bytes: &'a [u8],
        elsewhere: &mut Vec<Blob<'a>>,
        depth: usize,
    ) -> Result<Operation<'a>, String> {
        let mut read = Operation {
            id: self.operations,
            kind: "",
            inputs: Vec::new(),
            outputs: Vec::new(),
            blocks: Vec::new(),
            attributes: Vec::new(),
        };
        self.operations += 1;
        let nth = read.id;
        let context = |problem: String| format!("operation {nth}: {problem}");
        for field in fields(bytes) {
            let field = field.map_err(context)?;
            match field.number {
                operation::TYPE => read.kind = field.text().map_err(context)?,
                operation::INPUTS => {
                    let (key, argument) = entry(field.bytes()?).map_err(context)?;
                    let bound = bindings(argument).map_err(context)?;
                    put_once(&mut read.inputs, key, bound).map_err(context)?;
                }
                operation::OUTPUTS => read
                    .outputs
                    .push(named_type(field.bytes()?).map_err(context)?),
                operation::BLOCKS => {
                    let block = self.block(field.bytes()?, elsewhere, depth + 1)?;
                    read.blocks.push(block);
                }
                operation::ATTRIBUTES => {
                    let (key, value) = entry(field.bytes()?).map_err(context)?;
                    let value = self::value(value).map_err(context)?;
                    put_once(&mut read.attributes, key, value).map_err(context)?;
                }
                _ => {}
            }
        }
        if let Some(blob) = read.blobs().first() {
            self.weights.get_or_insert(blob.file);
        }
        Ok(read)
    }

    /// An entry of a map of attributes that are not an operation's.
    fn elsewhere(&mut self, bytes: &'a [u8], found: &mut Vec<Blob<'a>>) -> Result<(), String> {
        let (_, bytes) = entry(bytes)?;
        if let Payload::Blob(blob) = value(bytes)?.payload {
            self.weights.get_or_insert(blob.file);
            found.push(blob);
        }
        Ok(())
    }
}

fn put_once<'a, T>(list: &mut Vec<(&'a str, T)>, key: &'a str, value: T) -> Result<(), String> {
    if list.iter().any(|(other, _)| *other == key) {
        return Err(format!("`{key}` appears twice"));
    }
    list.push((key, value));
    Ok(())
}

fn bindings(bytes: &[u8]) -> Result<Vec<Binding<'_>>, String> {
    let mut found = Vec::new();
    for field in fields(bytes) {
        let field = field?;
        if field.number != argument::BINDINGS {
            continue;
        }
        for field in fields(field.bytes()?) {
            let field = field?;
            match field.number {
                argument::NAME => found.push(Binding::Name(field.text()?)),
                argument::VALUE => found.push(Binding::Value(value(field.bytes()?)?)),
                _ => {}
            }
        }
    }
    Ok(found)
}

fn named_type(bytes: &[u8]) -> Result<Named<'_>, String> {
    let (mut name, mut kind, mut type_bytes) = ("", None, &[][..]);
    for field in fields(bytes) {
        let field = field?;
        match field.number {
            named::NAME => name = field.text()?,
            named::TYPE => {
                type_bytes = field.bytes()?;
                kind = tensor_type(type_bytes)?;
            }
            _ => {}
        }
    }
    Ok(Named {
        name,
        kind,
        type_bytes,
    })
}

/// A `ValueType`, if it is that of a tensor.
pub(crate) fn tensor_type(bytes: &[u8]) -> Result<Option<TensorType>, String> {
    let mut found = None;
    for field in fields(bytes) {
        let field = field?;
        if field.number == types::TENSOR {
            once(&mut found, field.bytes()?, "type")?;
        }
    }
    let Some(tensor) = found else {
        return Ok(None);
    };
    let (mut dtype, mut dims) = (DataType(0), Vec::new());
    for field in fields(tensor) {
        let field = field?;
        match field.number {
            types::DATA_TYPE => dtype = DataType(field.varint()?),
            types::DIMENSIONS => dims.push(dimension(field.bytes()?)?),
            _ => {}
        }
    }
    Ok(Some(TensorType { dtype, dims }))
}

fn dimension(bytes: &[u8]) -> Result<Option<u64>, String> {
    let mut size = None;
    for field in fields(bytes) {
        let field = field?;
        if field.number == types::CONSTANT {
            // A dimension of 0 is not written.
            size = Some(0);
            for field in fields(field.bytes()?) {
                let field = field?;
                if field.number == types::SIZE {
                    size = Some(field.varint()?);
                }
            }
        }
    }
    Ok(size)
}

fn value(bytes: &[u8]) -> Result<Value<'_>, String> {
    let (mut kind, mut payload) = (None, Payload::Other);
    for field in fields(bytes) {
        let field = field?;
        match field.number {
            value::TYPE => kind = tensor_type(field.bytes()?)?,
            value::IMMEDIATE => {
                for field in fields(field.bytes()?) {
                    let field = field?;
                    match field.number {
                        value::TENSOR => payload = Payload::Tensor(field.bytes()?),
                        _ => no_blob_within(&field, 0)?,
                    }
                }
            }
            value::BLOB => payload = Payload::Blob(blob(field.bytes()?)?),
            _ => {}
        }
    }
    Ok(Value { kind, payload })
}

/// Lists and dictionaries hold values, which would hold offsets that move. Nobody writes such.
fn no_blob_within(list: &Field<'_>, depth: usize) -> Result<(), String> {
    let (value::TUPLE..=value::DICTIONARY, Content::Bytes(bytes)) = (list.number, list.content)
    else {
        return Ok(());
    };
    if depth > DEPTH {
        return Err(format!("values within values more than {DEPTH} deep"));
    }
    for item in fields(bytes) {
        let item = item?;
        if item.number != value::ITEMS {
            continue;
        }
        let mut values = vec![item.bytes()?];
        if list.number == value::DICTIONARY {
            values.clear();
            for field in fields(item.bytes()?) {
                let field = field?;
                if matches!(field.number, map::KEY | map::VALUE) {
                    values.push(field.bytes()?);
                }
            }
        }
        for field in values.into_iter().flat_map(fields) {
            let field = field?;
            match field.number {
                value::BLOB => {
                    return Err("a list refers to a weight file, which quant cannot move".into());
                }
                value::IMMEDIATE => {
                    for inner in fields(field.bytes()?) {
                        no_blob_within(&inner?, depth + 1)?;
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Reads a `BlobFileValue`.
pub(crate) fn blob(bytes: &[u8]) -> Result<Blob<'_>, String> {
    let mut found = Blob {
        file: "",
        offset: 0,
    };
    for field in fields(bytes) {
        let field = field?;
        match field.number {
            value::BLOB_FILE => found.file = field.text()?,
            value::BLOB_OFFSET => found.offset = field.varint()?,
            _ => {}
        }
    }
    Ok(found)
}
