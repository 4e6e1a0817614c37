//! How far apart the answers of two models are, and where it begins.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::path::Path;

use crate::score::{Agreement, OutputScore, Score, rows};
use crate::{Error, Model, NonFinite, Samples, States, Tensor, Watch};

/// What [`evaluate`] finds.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Evaluation {
    /// Samples that went through both models.
    pub samples: usize,
    /// The outputs, in the first model's order.
    pub outputs: Vec<OutputScore>,
    /// The values that both models compute, in the order of the first program.
    pub intermediates: Vec<Score>,
    /// Values of the first model that were not compared for want of memory.
    pub dropped: usize,
    /// Where each model first gave a value that is not finite, and with which sample.
    pub non_finite: [NonFinite; 2],
}

/// Keeps what another model computes as well.
struct Keep<'a> {
    wanted: Option<&'a HashSet<String>>,
    kept: Vec<(String, String, Tensor)>,
    bytes: usize,
    most: usize,
    dropped: usize,
    non_finite: NonFinite,
    go_on: &'a dyn Fn() -> bool,
}

impl Watch for Keep<'_> {
    fn value(
        &mut self,
        kind: &str,
        operation: &str,
        name: &str,
        value: &Tensor,
    ) -> Result<(), Error> {
        self.non_finite.value(kind, operation, name, value)?;
        let wanted = self.wanted.is_none_or(|wanted| wanted.contains(name));
        if !wanted || value.floats().is_none() {
            return Ok(());
        }
        let bytes = value.len().saturating_mul(4);
        if self.bytes.saturating_add(bytes) > self.most {
            self.dropped += 1;
            return Ok(());
        }
        self.bytes += bytes;
        self.kept.push((kind.into(), name.into(), value.clone()));
        Ok(())
    }

    fn go_on(&mut self) -> bool {
        (self.go_on)()
    }
}

/// Compares each value with what was kept under its name.
struct Compare<'a> {
    /// Of a value within a loop, time after time.
    kept: HashMap<String, VecDeque<Tensor>>,
    scores: &'a mut BTreeMap<String, Score>,
    non_finite: NonFinite,
    go_on: &'a dyn Fn() -> bool,
}

impl Watch for Compare<'_> {
    fn value(
        &mut self,
        kind: &str,
        operation: &str,
        name: &str,
        value: &Tensor,
    ) -> Result<(), Error> {
        self.non_finite.value(kind, operation, name, value)?;
        let Some(other) = self.kept.get_mut(name).and_then(VecDeque::pop_front) else {
            return Ok(());
        };
        let (Some(a), Some(b)) = (other.floats(), value.floats()) else {
            return Ok(());
        };
        if a.len() == b.len()
            && let Some(score) = self.scores.get_mut(name)
        {
            score.add(a, b);
        }
        Ok(())
    }

    fn go_on(&mut self) -> bool {
        (self.go_on)()
    }
}

/// # Errors
/// A label that is no class of any output.
fn check_label(label: i64, outputs: &[(String, Tensor)]) -> Result<(), Error> {
    let classes = outputs.iter().filter_map(|(_, tensor)| rows(tensor));
    let Some(classes) = classes.map(|(_, classes)| classes).max() else {
        let problem = "a label, but no output of the model has rows of classes";
        return Err(Error::Value(problem.into()));
    };
    match usize::try_from(label) {
        Ok(label) if label < classes => Ok(()),
        _ => Err(Error::Value(format!(
            "label {label}, where the model knows the classes 0 to {}",
            classes - 1
        ))),
    }
}

/// How samples are passed through two models.
///
/// ```
/// let options = quant_run::EvaluationOptions::default().with_labels(&[3, 1][..]);
/// assert_eq!((options.labels.map(<[i64]>::len), options.sequence), (Some(2), false));
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct EvaluationOptions<'a> {
    /// The class of each sample.
    pub labels: Option<&'a [i64]>,
    /// Bytes of the first model's values that are kept while the second runs.
    pub memory: usize,
    /// The samples are one sequence: states go from each to the next.
    pub sequence: bool,
}

impl Default for EvaluationOptions<'_> {
    /// No labels, 8 GiB, samples on their own.
    fn default() -> Self {
        Self {
            labels: None,
            memory: 8 << 30,
            sequence: false,
        }
    }
}

impl<'a> EvaluationOptions<'a> {
    quant_models::quant_core::setters! {
        with_labels labels: impl Into<Option<&'a [i64]>>,
        with_memory memory: usize,
        with_sequence sequence: bool,
    }
}

/// Runs all samples through both models and compares what they compute.
///
/// `go_on` is asked before each operation, `done` is told of each sample.
///
/// # Errors
/// Models whose outputs have other names or shapes; what [`Model::run`] and [`Samples::read`] say.
pub fn evaluate(
    [a, b]: [&Model; 2],
    samples: &Samples,
    options: &EvaluationOptions<'_>,
    go_on: &dyn Fn() -> bool,
    done: &dyn Fn(),
) -> Result<Evaluation, Error> {
    have_one_interface(a, b)?;
    if let (Some(labels), Some(want)) = (options.labels, samples.count())
        && labels.len() < want
    {
        let have = labels.len();
        return Err(Error::Value(format!("{have} labels for {want} samples")));
    }
    let mut comparison = Comparison {
        shared: b.value_names(),
        order: Vec::new(),
        scores: BTreeMap::new(),
        outputs: Vec::new(),
        dropped: 0,
        non_finite: Default::default(),
        memory: options.memory,
        states: None,
        go_on,
    };
    let count = a.outputs().len();
    comparison.outputs.resize_with(count, Default::default);
    let mut index = 0;
    while let Some(sample) = samples.read(index, a.inputs())? {
        let label = options.labels.map(|labels| labels.get(index).copied());
        if let (Some(None), Some(labels)) = (label, options.labels) {
            let have = labels.len();
            return Err(Error::Value(format!("{have} labels for more samples")));
        }
        comparison.states = comparison.states.take().filter(|_| options.sequence);
        let name = samples.name(index);
        let added = comparison.add([a, b], &sample, label.flatten());
        let found = added.map_err(|error| Error::at_sample(&name, error))?;
        comparison.note(&name, found);
        done();
        index += 1;
    }
    Ok(comparison.finish(index))
}

/// # Errors
/// The inputs or outputs of two models, where they are not the same.
fn have_one_interface(a: &Model, b: &Model) -> Result<(), Error> {
    let names = |model: &Model| -> Vec<String> {
        let mut names: Vec<_> = model.inputs().iter().map(|it| it.name.clone()).collect();
        names.sort();
        names
    };
    let (one, other) = (names(a), names(b));
    if one != other {
        let (one, other) = (one.join(", "), other.join(", "));
        return Err(Error::Value(format!(
            "the models take other inputs: {one}; and {other}"
        )));
    }
    if a.outputs() != b.outputs() {
        let (one, other) = (a.outputs().join(", "), b.outputs().join(", "));
        return Err(Error::Value(format!(
            "the models give other outputs: {one}; and {other}"
        )));
    }
    Ok(())
}

/// What samples have shown so far.
struct Comparison<'a> {
    shared: HashSet<String>,
    /// The names of values, in the order of the first program.
    order: Vec<String>,
    scores: BTreeMap<String, Score>,
    outputs: Vec<(Score, Agreement)>,
    dropped: usize,
    non_finite: [NonFinite; 2],
    memory: usize,
    /// Those that the last sample has left.
    states: Option<[States; 2]>,
    go_on: &'a dyn Fn() -> bool,
}

impl Comparison<'_> {
    /// Runs a sample through both models; gives what was not finite in each.
    fn add(
        &mut self,
        [a, b]: [&Model; 2],
        sample: &[(String, Tensor)],
        label: Option<i64>,
    ) -> Result<[NonFinite; 2], Error> {
        let given = sample
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor.clone()));
        let given: Vec<(&str, Tensor)> = given.collect();
        let mut keep = Keep {
            wanted: Some(&self.shared),
            kept: Vec::new(),
            bytes: 0,
            most: self.memory,
            dropped: 0,
            non_finite: NonFinite::default(),
            go_on: self.go_on,
        };
        let mut states = match self.states.take() {
            Some(states) => states,
            None => [a.states()?, b.states()?],
        };
        let first = a.run(&given, &mut states[0], &mut keep)?;
        self.dropped = self.dropped.max(keep.dropped);
        let mut kept = HashMap::<String, VecDeque<Tensor>>::new();
        for (kind, name, value) in keep.kept {
            if !self.scores.contains_key(&name) {
                self.order.push(name.clone());
                let score = Score::new(name.clone(), kind);
                self.scores.insert(name.clone(), score);
            }
            kept.entry(name).or_default().push_back(value);
        }
        let mut compare = Compare {
            kept,
            scores: &mut self.scores,
            non_finite: NonFinite::default(),
            go_on: self.go_on,
        };
        let second = b.run(&given, &mut states[1], &mut compare)?;
        let non_finite = [keep.non_finite, compare.non_finite];
        self.states = Some(states);
        if let Some(label) = label {
            check_label(label, &first)?;
        }
        self.compare_outputs(&first, &second, label)?;
        Ok(non_finite)
    }

    /// Keeps where the first values came from that are not finite.
    fn note(&mut self, sample: &Path, found: [NonFinite; 2]) {
        for (first, found) in self.non_finite.iter_mut().zip(found) {
            let at = |place: String| format!("{}: {place}", sample.display());
            first.nan = first.nan.take().or(found.nan.map(at));
            first.infinity = first.infinity.take().or(found.infinity.map(at));
        }
    }

    fn compare_outputs(
        &mut self,
        first: &[(String, Tensor)],
        second: &[(String, Tensor)],
        label: Option<i64>,
    ) -> Result<(), Error> {
        for ((score, agreement), ((name, x), (_, y))) in
            self.outputs.iter_mut().zip(first.iter().zip(second))
        {
            if x.shape() != y.shape() {
                let (one, other) = (x.shape(), y.shape());
                let problem = format!("output `{name}` has shape {one:?} and {other:?}");
                return Err(Error::Value(problem));
            }
            score.name.clone_from(name);
            score.kind = "output".into();
            let (xs, ys) = (x.to_floats(), y.to_floats());
            score.add(&xs.map_err(Error::Value)?, &ys.map_err(Error::Value)?);
            agreement.add(x, y, label);
        }
        Ok(())
    }

    fn finish(mut self, samples: usize) -> Evaluation {
        let outputs = self.outputs.into_iter();
        let outputs = outputs.map(|(score, agreement)| agreement.of_output(score));
        let scores = &mut self.scores;
        Evaluation {
            samples,
            outputs: outputs.collect(),
            intermediates: (self.order.iter())
                .filter_map(|name| scores.remove(name))
                .collect(),
            dropped: self.dropped,
            non_finite: self.non_finite,
        }
    }
}
