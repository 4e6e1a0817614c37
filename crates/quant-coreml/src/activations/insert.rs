//! Where `quantize` and `dequantize` go: coremltools' passes `insert_prefix_quantize_dequantize_pair`
//! and `insert_suffix_quantize_dequantize_pair`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::net::{Arg, BlockId, Bound, Net, OpId, Slot, VarId};
use super::parameters::{Parameters, int_name};
use super::{Chosen, OperationReport, QuantizedActivation};
use crate::mil::encode::{Elements, NewValue};
use crate::mil::schema::DataType;

/// What is quantized.
const KINDS: [&str; 5] = ["conv", "linear", "avg_pool", "max_pool", "add"];
/// What may follow it, and is taken together with it.
const ACTIVATIONS: [&str; 7] = [
    "leaky_relu",
    "tanh",
    "scaled_tanh",
    "sigmoid",
    "hard_sigmoid",
    "relu",
    "relu6",
];

/// Inserts pairs into a function.
pub(super) struct Inserter<'i, 'p, 'a> {
    pub net: &'i mut Net<'p, 'a>,
    /// How an operation's activations are to be quantized.
    pub choose: &'i dyn Fn(&str, &str) -> Chosen,
    /// By names of variables; those of a `concat` are united.
    pub ranges: HashMap<String, (f32, f32)>,
    /// In the order of the model's operations.
    pub reports: BTreeMap<OpId, OperationReport>,
    /// Variables for want of whose range something stays float.
    pub missing: BTreeSet<VarId>,
    /// Whether the program is another one now.
    pub changed: bool,
    /// Whether anything is quantized.
    pub quantized: bool,
}

impl<'i, 'p, 'a> Inserter<'i, 'p, 'a> {
    pub fn new(
        net: &'i mut Net<'p, 'a>,
        choose: &'i dyn Fn(&str, &str) -> Chosen,
        ranges: HashMap<String, (f32, f32)>,
    ) -> Self {
        Self {
            net,
            choose,
            ranges,
            reports: BTreeMap::new(),
            missing: BTreeSet::new(),
            changed: false,
            quantized: false,
        }
    }

    pub fn run(&mut self) -> Result<(), String> {
        self.prefixes(0)?;
        self.suffixes(0)
    }

    fn prefixes(&mut self, block: BlockId) -> Result<(), String> {
        let operations = self.net.operations(block);
        for &op in &operations {
            for inner in self.net.ops[op].blocks.clone() {
                self.prefixes(inner)?;
            }
        }
        for op in operations {
            if KINDS.contains(&self.net.ops[op].kind) {
                let left = self.prefix(op)?;
                let (name, operation) = (&self.net.ops[op].name, self.net.ops[op].kind);
                let mut report = OperationReport::new(name, operation);
                match left {
                    Ok(quantized) => report.quantized = quantized,
                    Err(left) => {
                        self.missing.extend(left.missing);
                        super::leave(&mut report, left);
                    }
                }
                self.reports.insert(op, report);
            }
        }
        Ok(())
    }

    /// Quantizes what an operation takes, or says why not.
    // Long: the steps of coremltools' pass, in its order.
    fn prefix(
        &mut self,
        op: OpId,
    ) -> Result<Result<Vec<QuantizedActivation>, UnquantizedError>, String> {
        let scheme = match (self.choose)(&self.net.ops[op].name, self.net.ops[op].kind) {
            Chosen::Quantize(scheme) => scheme,
            Chosen::Leave(reason) => return Ok(Err(UnquantizedError::told(reason))),
        };
        let keys: &[&str] = match self.net.ops[op].kind {
            "add" => &["x", "y"],
            _ => &["x"],
        };
        let sources: Vec<_> = keys.iter().map(|key| self.source(op, key)).collect();
        // What no range would mend is said first.
        let hopeless = |source: &Result<_, UnquantizedError>| matches!(source, Err(left) if left.missing.is_none());
        let hopeless = sources.iter().position(hopeless);
        if let Some(at) = hopeless.or_else(|| sources.iter().position(Result::is_err)) {
            // coremltools makes the pair of x before it sees that y is constant: it goes away, but
            // counts in names and among consumers meanwhile.
            if let [
                Ok((var, range)),
                Err(UnquantizedError { constant: true, .. }),
            ] = &sources[..]
                && let Ok(parameters) = self.parameters(*var, *range, &scheme)
            {
                let var = *var;
                self.pair(var, &parameters, false, &mut Slot::Before(op))?;
            }
            return Ok(sources
                .into_iter()
                .nth(at)
                .and_then(Result::err)
                .map_or(Ok(Vec::new()), Err));
        }
        let mut made = Vec::new();
        for (key, (var, range)) in keys.iter().zip(sources.into_iter().flatten()) {
            made.push((*key, var, range, self.parameters(var, range, &scheme)?));
        }
        let taken = self.net.taken(op);
        let mut quantized = Vec::new();
        let mut inputs = Vec::new();
        for (key, var, range, parameters) in made {
            let new = self.pair(var, &parameters, false, &mut Slot::Before(op))?;
            quantized.push(super::quantized(
                &self.net.vars[var].name,
                Some(key),
                range,
                &parameters,
            ));
            inputs.push((key, new));
        }
        // coremltools makes the operation anew.
        for (key, bound) in &mut self.net.ops[op].inputs {
            if let Some((_, new)) = inputs.iter().find(|(input, _)| input == key) {
                *bound = vec![Bound::Var(*new)];
            }
        }
        self.quantized = true;
        self.net.attach(op);
        self.made_anew(op);
        self.net.detach(op, &taken);
        Ok(Ok(quantized))
    }

    /// The variable that an input takes, and its range.
    fn source(&self, op: OpId, key: &str) -> Result<(VarId, (f32, f32)), UnquantizedError> {
        let var = match self.net.input(op, key) {
            Some(Bound::Var(_)) if self.net.input_from(op, key, "dequantize").is_some() => {
                return Err(UnquantizedError::told(format!(
                    "its input {key} is quantized already"
                )));
            }
            Some(Bound::Var(var)) if !self.net.is_constant(var) => var,
            Some(Bound::Var(_) | Bound::Value(_)) => {
                return Err(UnquantizedError {
                    constant: true,
                    ..UnquantizedError::told(format!("its input {key} is constant"))
                });
            }
            _ => {
                return Err(UnquantizedError::told(format!(
                    "its input {key} is not one variable"
                )));
            }
        };
        Ok((var, self.range(var)?))
    }

    fn range(&self, var: VarId) -> Result<(f32, f32), UnquantizedError> {
        let found = &self.net.vars[var];
        match found.dtype {
            Some(DataType::FLOAT16 | DataType::FLOAT32) if found.rank > 0 => {}
            Some(DataType::FLOAT16 | DataType::FLOAT32) => {
                return Err(UnquantizedError::told(format!(
                    "`{}` is a single number",
                    found.name
                )));
            }
            dtype => {
                let dtype = dtype.map_or("no tensor".into(), DataType::name);
                return Err(UnquantizedError::told(format!(
                    "`{}` is {dtype}",
                    found.name
                )));
            }
        }
        let range = self.ranges.get(&*found.name).copied();
        range.ok_or_else(|| UnquantizedError {
            missing: Some(var),
            ..UnquantizedError::told(format!("no range for `{}`", found.name))
        })
    }

    fn parameters(
        &self,
        var: VarId,
        range: (f32, f32),
        scheme: &quant_core::Scheme,
    ) -> Result<Parameters, String> {
        let var = &self.net.vars[var];
        Parameters::new(range, *scheme, var.dtype.unwrap_or(DataType::FLOAT32))
            .map_err(|problem| format!("activation `{}`: {problem}", var.name))
    }

    /// A `quantize` and a `dequantize` of `input`; returns what the second gives.
    fn pair(
        &mut self,
        input: VarId,
        parameters: &Parameters,
        always_zero_point: bool,
        place: &mut Slot,
    ) -> Result<VarId, String> {
        self.changed = true;
        let int = parameters.dtype;
        let args = |dtype: Option<NewValue>| {
            let zero_point = match parameters.zero_point {
                None if always_zero_point => Some(0),
                zero_point => zero_point,
            };
            let zero_point = zero_point.map(|code| NewValue {
                dtype: int,
                shape: Vec::new(),
                elements: Elements::Here(vec![code as u8]),
            });
            [
                ("scale", Some(parameters.scale_value())),
                ("zero_point", zero_point),
                ("output_dtype", dtype),
            ]
            .into_iter()
            .filter_map(|(key, value)| Some((key, Arg::Const(value?))))
            .collect()
        };
        let name = NewValue::text(int_name(int));
        let codes = self
            .net
            .add_made("quantize", input, args(Some(name)), int, place)?;
        self.net
            .add_made("dequantize", codes, args(None), parameters.float, place)
    }

    /// The consumers of its outputs are attached anew, in the order of the program.
    fn made_anew(&mut self, op: OpId) {
        for var in self.net.ops[op].outputs.clone() {
            for child in self.net.children_in_order(var) {
                self.net.rebind(child, var, var);
            }
        }
    }

    fn suffixes(&mut self, block: BlockId) -> Result<(), String> {
        for op in self.net.operations(block) {
            for inner in self.net.ops[op].blocks.clone() {
                self.suffixes(inner)?;
            }
            if self.net.ops[op].kind == "dequantize"
                && let Some((core, last)) = self.pattern(op)
                && self.net.ops[core].block == Some(block)
                && self.net.ops[last].block == Some(block)
            {
                self.suffix(core, last)?;
            }
        }
        Ok(())
    }

    /// An operation whose inputs are dequantized, and the last one of its pattern.
    fn pattern(&self, dequantize: OpId) -> Option<(OpId, OpId)> {
        let net = &*self.net;
        let core = KINDS
            .iter()
            .find_map(|kind| net.only_child(dequantize, kind))?;
        if net.ops[core].kind == "add" {
            net.input_from(core, "x", "dequantize")?;
            net.input_from(core, "y", "dequantize")?;
        }
        if net.only_child(core, "quantize").is_some() {
            return None;
        }
        let child = *net.vars[net.output(core)?].children.first()?;
        if !ACTIVATIONS.contains(&net.ops[child].kind) {
            return Some((core, core));
        }
        if net.vars[net.output(child)?].children.is_empty() {
            return Some((core, core));
        }
        match net.only_child(child, "quantize") {
            Some(_) => None,
            None => Some((core, child)),
        }
    }

    fn suffix(&mut self, core: OpId, last: OpId) -> Result<(), String> {
        let chosen = (self.choose)(&self.net.ops[core].name, self.net.ops[core].kind);
        let (Chosen::Quantize(scheme), Some(var)) = (chosen, self.net.output(last)) else {
            return Ok(());
        };
        // coremltools has no range for what the function gives, and fails.
        let found = match self.net.vars[var].result {
            true => Err(UnquantizedError::told(format!(
                "`{}` is a result of the function, and stays float for its consumers too",
                self.net.vars[var].name
            ))),
            false => self.range(var),
        };
        let range = match found {
            Ok(range) => range,
            Err(left) => {
                self.missing.extend(left.missing);
                if let Some(report) = self.reports.get_mut(&core) {
                    super::leave(report, left);
                }
                return Ok(());
            }
        };
        let parameters = self.parameters(var, range, &scheme)?;
        if let Some(report) = self.reports.get_mut(&core) {
            let name = &self.net.vars[var].name;
            let quantized = super::quantized(name, None, range, &parameters);
            report.quantized.push(quantized);
        }
        let taken = self.net.taken(last);
        let consumers = self.net.children_in_order(var);
        self.quantized = true;
        self.net.attach(last);
        let new = self.pair(var, &parameters, true, &mut Slot::After(last))?;
        for consumer in consumers {
            self.net.rebind(consumer, var, new);
        }
        self.net.detach(last, &taken);
        let name = format!("{}__post__dequant", self.net.vars[new].name);
        self.net.vars[new].name = name.into();
        Ok(())
    }
}

/// Why an activation stays float.
pub(super) struct UnquantizedError {
    pub reason: String,
    /// What there is no range for, if it is that.
    pub missing: Option<VarId>,
    constant: bool,
}

impl UnquantizedError {
    fn told(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            missing: None,
            constant: false,
        }
    }
}
