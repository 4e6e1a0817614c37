//! Which constants the program has, what each feeds, and which axes it wants.

use std::collections::{BTreeSet, HashMap};

use crate::program::{Block, Operation, Region};
use crate::tables::Tables;
use crate::types::{ConstantValue, Element, TensorType, string};
use crate::wire::Reader;
use quant_model::Consumer;

pub(crate) const CONSTANT: &str = "primitive.constant_v1";
pub(crate) const SCALED: &str = "primitive.blockwise_shift_scale_v2";
/// Constants of fewer elements are no weights.
const LEAST: usize = 10;
/// Operations that quantize_weights knows to take weights; their names without versions.
const WEIGHT_CONSUMERS: [&str; 5] = [
    "primitive.batch_matmul",
    "broadcasting_batch_matmul",
    "primitive.conv2d",
    "primitive.gather_nd",
    "primitive.transpose",
];
/// From so many elements on, a constant is a weight whatever it feeds.
const VERY_LARGE: usize = 100_000_000;

/// An operation, and what it uses.
#[derive(Debug)]
pub(crate) struct Node<'p, 'a> {
    pub operation: &'p Operation<'a>,
    /// The name of the graph that it is in.
    graph: usize,
    /// The value that its operands are.
    pub operands: Vec<usize>,
    /// The first of the values that it defines.
    results: usize,
}

/// A value: what defines it, and what uses it.
#[derive(Debug, Default)]
pub(crate) struct Value {
    /// None for an argument.
    pub node: Option<usize>,
    /// Nodes, and which of their operands it is.
    pub uses: Vec<(usize, usize)>,
}

/// A program's operations in order, and its values.
#[derive(Debug)]
pub(crate) struct Graph<'p, 'a> {
    pub nodes: Vec<Node<'p, 'a>>,
    pub values: Vec<Value>,
    pub graphs: Vec<String>,
    pub weights: Vec<Weight<'a>>,
}

/// A weight: a constant, or the operation that makes floats of quantized constants.
#[derive(Debug)]
pub(crate) struct Weight<'a> {
    pub node: usize,
    pub name: String,
    pub kind: TensorType,
    /// Of a constant.
    pub payload: Option<ConstantValue<'a>>,
}

impl<'p, 'a> Graph<'p, 'a> {
    /// # Errors
    /// Operations that use values that there are not.
    pub fn new(tables: &Tables<'a>, program: &'p Block<'a>) -> Result<Self, String> {
        let mut walk = Walk {
            tables,
            graph: Self {
                nodes: Vec::new(),
                values: Vec::new(),
                graphs: vec!["main".into()],
                weights: Vec::new(),
            },
        };
        let mut scope = Vec::new();
        walk.number(program, &mut scope);
        walk.block(program, &mut scope, 0, 0)?;
        let mut graph = walk.graph;
        graph.weights = graph.find_weights(tables);
        Ok(graph)
    }

    fn find_weights(&self, tables: &Tables<'a>) -> Vec<Weight<'a>> {
        let (mut found, mut counts) = (Vec::new(), HashMap::new());
        for (index, node) in self.nodes.iter().enumerate() {
            let Some((kind, payload)) = self.weight(tables, node) else {
                continue;
            };
            let graph = &self.graphs[node.graph];
            let count: &mut usize = counts.entry(graph).or_default();
            found.push(Weight {
                node: index,
                name: format!("{graph}.constant_{count}"),
                kind,
                payload,
            });
            *count += 1;
        }
        found
    }

    fn weight(
        &self,
        tables: &Tables<'a>,
        node: &Node<'p, 'a>,
    ) -> Option<(TensorType, Option<ConstantValue<'a>>)> {
        let operation = node.operation;
        let kind = match operation.results[..] {
            [kind] => TensorType::read(tables, kind)?,
            _ => return None,
        };
        if is_scaled(tables, operation) {
            return Some((kind, None));
        }
        let payload = constant(tables, operation)?;
        let uses = &self.values[node.results].uses;
        let is_part = |(user, _): &(usize, usize)| is_scaled(tables, self.nodes[*user].operation);
        if kind.count < LEAST || !uses.is_empty() && uses.iter().all(is_part) {
            return None;
        }
        let is_float = matches!(kind.element, Element::Float(_));
        (is_float || matches!(payload, ConstantValue::Resource(_))).then_some((kind, Some(payload)))
    }

    /// What a node's only result feeds.
    pub fn uses(&self, node: usize) -> &[(usize, usize)] {
        &self.values[self.nodes[node].results].uses
    }

    /// The same of any node: nothing where it has not one result.
    pub fn uses_of(&self, node: usize) -> &[(usize, usize)] {
        match self.nodes[node].operation.results.len() {
            1 => self.uses(node),
            _ => &[],
        }
    }

    /// The name of the graph that a node is in.
    pub fn graph_of(&self, node: usize) -> &str {
        &self.graphs[self.nodes[node].graph]
    }

    /// The node that makes an operand.
    pub fn maker(&self, node: usize, operand: usize) -> Option<usize> {
        self.values[*self.nodes[node].operands.get(operand)?].node
    }

    fn name<'t>(&self, tables: &Tables<'t>, node: usize) -> &'t str {
        tables.operations[self.nodes[node].operation.name].name
    }

    /// What a node feeds, for people.
    pub fn consumers(&self, tables: &Tables<'_>, node: usize) -> Vec<Consumer> {
        let uses = self.uses(node).iter();
        let uses = uses.map(|&(user, operand)| Consumer {
            operation: unversioned(self.name(tables, user)).into(),
            name: format!("{}.operation_{user}", self.graphs[self.nodes[user].graph]),
            input: operand.to_string(),
        });
        uses.collect()
    }

    /// Why quantize_weights leaves a constant alone.
    pub fn pinned(&self, tables: &Tables<'_>, weight: &Weight<'_>) -> Option<&'static str> {
        let uses = self.uses(weight.node);
        let takes_weights = |&(user, _): &(usize, usize)| {
            WEIGHT_CONSUMERS.contains(&unversioned(self.name(tables, user)))
        };
        match uses {
            [] => Some("feeds no operation"),
            _ if weight.kind.count >= VERY_LARGE || uses.iter().all(takes_weights) => None,
            _ => Some(
                "feeds an operation other than a matrix product, a convolution, a transposition or a gathering",
            ),
        }
    }

    /// The axes of output and input channels, as quantize_weights finds them: where consumers
    /// contradict each other, 0 and 1.
    pub fn axes(&self, tables: &Tables<'_>, weight: &Weight<'_>) -> (isize, isize) {
        let rank = weight.kind.shape.len() as isize;
        let (mut outputs, mut inputs) = (BTreeSet::new(), BTreeSet::new());
        for &(user, _) in self.uses(weight.node) {
            let (output, input) = match unversioned(self.name(tables, user)) {
                "primitive.batch_matmul" | "broadcasting_batch_matmul" => {
                    match self.maker(user, 1) == Some(weight.node) {
                        true => (-1, -2),
                        false => (-2, -1),
                    }
                }
                "primitive.transpose" => self.behind_transposition(tables, user),
                _ => (0, 1),
            };
            let counted = |axis: isize| if axis < 0 { axis + rank } else { axis };
            outputs.insert(counted(output));
            inputs.insert(counted(input));
        }
        let only = |axes: &BTreeSet<isize>, default| match axes.first() {
            Some(axis) if axes.len() == 1 => *axis,
            _ => default,
        };
        (only(&outputs, 0), only(&inputs, 1))
    }

    /// The axes of what is transposed, as the products behind want them.
    fn behind_transposition(&self, tables: &Tables<'_>, transposed: usize) -> (isize, isize) {
        let mut found = BTreeSet::new();
        for &(user, _) in self.uses(transposed) {
            let name = unversioned(self.name(tables, user));
            if matches!(name, "primitive.batch_matmul" | "broadcasting_batch_matmul") {
                found.insert(match self.maker(user, 1) == Some(transposed) {
                    true => (-2, -1),
                    false => (-1, -2),
                });
            }
        }
        match found.first() {
            Some(axes) if found.len() == 1 => *axes,
            _ => (0, 1),
        }
    }
}

/// A name without its version.
pub(crate) fn unversioned(name: &str) -> &str {
    match name.rsplit_once("_v") {
        Some((plain, version)) if version.bytes().all(|it| it.is_ascii_digit()) => plain,
        _ => name,
    }
}

fn is_scaled(tables: &Tables<'_>, operation: &Operation<'_>) -> bool {
    tables.operations[operation.name].name == SCALED
        && operation.operands.len() == 4
        && operation.results.len() == 1
        && operation.regions.is_empty()
}

/// The value of an operation that is a constant.
pub(crate) fn constant<'a>(
    tables: &Tables<'a>,
    operation: &Operation<'_>,
) -> Option<ConstantValue<'a>> {
    let is_constant = tables.operations[operation.name].name == CONSTANT
        && operation.operands.is_empty()
        && operation.results.len() == 1
        && operation.regions.is_empty();
    if !is_constant {
        return None;
    }
    let mut reader = Reader::new(tables.properties[operation.properties?]);
    let value = reader.index(tables.attributes.len(), "attribute").ok()?;
    reader
        .is_at_end()
        .then(|| ConstantValue::read(tables, value))?
}

struct Walk<'w, 'p, 'a> {
    tables: &'w Tables<'a>,
    graph: Graph<'p, 'a>,
}

impl<'p, 'a> Walk<'_, 'p, 'a> {
    /// Makes values of what a block defines, which `scope` sees from here on.
    fn number(&mut self, block: &'p Block<'a>, scope: &mut Vec<usize>) {
        let results = block.operations.iter().map(|it| it.results.len());
        for _ in 0..block.arguments.len() + results.sum::<usize>() {
            scope.push(self.graph.values.len());
            self.graph.values.push(Value::default());
        }
    }

    fn region(
        &mut self,
        region: &'p Region<'a>,
        scope: &mut Vec<usize>,
        graph: usize,
    ) -> Result<(), String> {
        let known = scope.len();
        for block in &region.blocks {
            self.number(block, scope);
        }
        let mut first = known;
        for block in &region.blocks {
            first = self.block(block, scope, first, graph)?;
        }
        scope.truncate(known);
        Ok(())
    }

    /// `at` is where the scope has the block's first value.
    fn block(
        &mut self,
        block: &'p Block<'a>,
        scope: &mut Vec<usize>,
        mut at: usize,
        graph: usize,
    ) -> Result<usize, String> {
        at += block.arguments.len();
        for operation in &block.operations {
            let node = self.graph.nodes.len();
            let operands = operation.operands.iter().map(|number| {
                let value = scope.get(*number).copied();
                value.ok_or_else(|| {
                    format!("uses the value {number}, of which it has {}", scope.len())
                })
            });
            let operands = operands.collect::<Result<Vec<_>, _>>()?;
            for (place, value) in operands.iter().enumerate() {
                self.graph.values[*value].uses.push((node, place));
            }
            let results = scope.get(at).copied().unwrap_or_default();
            for value in &scope[at..at + operation.results.len()] {
                self.graph.values[*value].node = Some(node);
            }
            at += operation.results.len();
            self.graph.nodes.push(Node {
                operation,
                graph,
                operands,
                results,
            });
            let inner = self.graph_of(operation).unwrap_or(graph);
            for region in &operation.regions {
                match operation.is_isolated {
                    true => self.region(region, &mut Vec::new(), inner)?,
                    false => self.region(region, scope, inner)?,
                }
            }
        }
        Ok(at)
    }

    /// The name of the graph that an operation is.
    fn graph_of(&mut self, operation: &Operation<'_>) -> Option<usize> {
        if unversioned(self.tables.operations[operation.name].name) != "dataflow.graph" {
            return None;
        }
        let mut reader = Reader::new(self.tables.properties[operation.properties?]);
        let mut numbers = std::iter::from_fn(|| reader.varint().ok());
        // Its name is the only text among its properties.
        let name = numbers.find_map(|number| {
            let number = usize::try_from(number).ok();
            let number = number.filter(|it| *it < self.tables.attributes.len())?;
            string(self.tables, number)
        })?;
        self.graph.graphs.push(name.into());
        Some(self.graph.graphs.len() - 1)
    }
}
