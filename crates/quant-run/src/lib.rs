//! Runs ML programs of Core ML packages on the CPU, operation by operation.
//!
//! [`Model::open`] reads a package and refuses one with operations that are not known here;
//! [`Model::run`] computes its outputs, and shows every value on the way to a [`Watch`]. A value is
//! given up as soon as no operation needs it any more.
//!
//! Models of float16 run in f32 arithmetic unless [`RunOptions::round_f16`] says otherwise.
//!
//! ```no_run
//! use quant_run::{Model, Quiet, RunOptions, Tensor};
//!
//! let model = Model::open("Model.mlpackage".as_ref(), RunOptions::default())?;
//! let image = Tensor::from_floats(&[1, 3, 2, 2], vec![0.5; 12])?;
//! let mut states = model.states()?;
//! let outputs = model.run(&[("image", image)], &mut states, &mut Quiet)?;
//! for (name, tensor) in &outputs {
//!     println!("{name} {:?}", tensor.shape());
//! }
//! # Ok::<(), quant_run::Error>(())
//! ```
#![forbid(unsafe_code)]

mod call;
mod damage;
mod engine;
mod error;
mod evaluate;
mod gptq;
mod image;
mod index;
mod interpreter;
mod memory;
mod model;
mod npy;
mod npz_stream;
mod ops;
mod options;
mod plan;
mod samples;
mod score;
mod tensor;
mod watch;
mod weight_input;

pub use damage::Damage;
pub use error::Error;
pub use evaluate::{Evaluation, EvaluationOptions, evaluate};
pub use gptq::{
    Gptq, GptqLayer, GptqOptions, Moments, MomentsError, Solved, WeightMatrix, gptq, solve,
    solve_while,
};
pub use image::ImageFit;
pub use model::{Model, ModelInput, States, operations};
pub use npy::{npy_to, read_npy, write_npy};
pub use options::RunOptions;
pub use samples::{
    Samples, is_image, npz_to, read_arrays, read_image, write_npz, write_safetensors,
};
pub use score::{OutputScore, Score};
pub use tensor::Tensor;
pub use watch::{NonFinite, Quiet, Watch};
pub use weight_input::WeightInput;

/// The README's example is tested with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
