//! Which constants feed which operations.

use std::collections::{HashMap, HashSet};

use quant_model::Consumer;

use crate::mil::program::{Binding, Block, Function, Operation, Program, Value};

/// A `const` or `constexpr_` operation and what becomes of its result.
#[derive(Debug)]
pub(crate) struct Constant<'p, 'a> {
    pub operation: &'p Operation<'a>,
    /// Which block of the program it stands in; blocks share no data.
    pub block: usize,
    pub function: usize,
    pub consumers: Vec<Use<'p, 'a>>,
    /// Whether it is a result of a function.
    pub is_result: bool,
    /// Whether a block, even one within an operation, gives it.
    pub leaves_block: bool,
}

/// One input that a constant is bound to.
#[derive(Debug)]
pub(crate) struct Use<'p, 'a> {
    pub operation: &'p Operation<'a>,
    pub input: &'a str,
    /// Axes of output and input channels, as coremltools picks them; negative from the end.
    pub axes: (isize, isize),
}

/// The constants of a program, in order, and all names of each function.
#[derive(Debug, Default)]
pub(crate) struct Graph<'p, 'a> {
    pub constants: Vec<Constant<'p, 'a>>,
    pub names: Vec<HashSet<&'a str>>,
    blocks: usize,
}

/// Variables by name: the constant that defines it, if one does.
type Scope<'a> = HashMap<&'a str, Option<usize>>;

impl Use<'_, '_> {
    pub fn consumer(&self) -> Consumer {
        Consumer {
            operation: self.operation.kind.into(),
            name: self.operation.name().into(),
            input: self.input.into(),
        }
    }
}

impl<'p, 'a> Graph<'p, 'a> {
    pub fn new(program: &'p Program<'a>) -> Self {
        let mut graph = Self::default();
        for (index, function) in program.functions.iter().enumerate() {
            graph.names.push(HashSet::new());
            graph.function(index, function);
        }
        graph
    }

    fn function(&mut self, index: usize, function: &'p Function<'a>) {
        for (_, block) in &function.blocks {
            let mut inputs = Scope::new();
            for input in &function.inputs {
                self.names[index].insert(input.name);
                inputs.insert(input.name, None);
            }
            let results = self.walk(index, block, &mut vec![inputs]);
            for constant in results {
                self.constants[constant].is_result = true;
            }
        }
    }

    /// Returns the constants that the block gives.
    fn walk(
        &mut self,
        function: usize,
        block: &'p Block<'a>,
        scopes: &mut Vec<Scope<'a>>,
    ) -> Vec<usize> {
        let here = self.blocks;
        self.blocks += 1;
        let mut own = Scope::new();
        for input in &block.inputs {
            self.names[function].insert(input.name);
            own.insert(input.name, None);
        }
        scopes.push(own);
        for operation in &block.operations {
            for (input, bindings) in &operation.inputs {
                for binding in bindings {
                    if let Binding::Name(name) = binding
                        && let Some(constant) = find(scopes, name)
                    {
                        let axes = self.axes(operation, constant, scopes);
                        self.constants[constant].consumers.push(Use {
                            operation,
                            input,
                            axes,
                        });
                    }
                }
            }
            for inner in &operation.blocks {
                self.walk(function, inner, scopes);
            }
            let constant = operation.kind == "const" || operation.is_constexpr();
            let index = constant.then_some(self.constants.len());
            if constant {
                self.constants.push(Constant {
                    operation,
                    block: here,
                    function,
                    consumers: Vec::new(),
                    is_result: false,
                    leaves_block: false,
                });
            }
            for output in &operation.outputs {
                self.names[function].insert(output.name);
                if let Some(scope) = scopes.last_mut() {
                    scope.insert(output.name, index);
                }
            }
        }
        let outputs = block.outputs.iter();
        let given: Vec<usize> = outputs.filter_map(|name| find(scopes, name)).collect();
        for &constant in &given {
            self.constants[constant].leaves_block = true;
        }
        scopes.pop();
        given
    }

    /// Output and input channels of a constant that feeds an operation.
    fn axes(
        &self,
        operation: &'p Operation<'a>,
        constant: usize,
        scopes: &[Scope<'a>],
    ) -> (isize, isize) {
        let is = |input: &str| match operation.input(input) {
            Some(Binding::Name(name)) => find(scopes, name) == Some(constant),
            _ => false,
        };
        let turned = |input: &str| match operation.input(input) {
            Some(Binding::Name(name)) => find(scopes, name)
                .and_then(|flag| self.constants[flag].operation.attribute("val"))
                .and_then(Value::boolean)
                .unwrap_or(false),
            Some(Binding::Value(value)) => value.boolean().unwrap_or(false),
            None => false,
        };
        match operation.kind {
            "conv_transpose" => (1, 0),
            "matmul" if is("y") => match turned("transpose_y") {
                true => (-2, -1),
                false => (-1, -2),
            },
            "matmul" => match turned("transpose_x") {
                true => (-1, -2),
                false => (-2, -1),
            },
            _ => (0, 1),
        }
    }
}

/// The innermost definition of a name, if it is a constant.
fn find(scopes: &[Scope<'_>], name: &str) -> Option<usize> {
    let mut outwards = scopes.iter().rev();
    outwards
        .find_map(|scope| scope.get(name).copied())
        .flatten()
}
