//! Interleaved timing: contenders take turns, so that whatever else the machine does hits all of
//! them alike.

use std::time::Instant;

use crate::{Case, Contender};

/// How long one contender's turn lasts at least.
const TURN: f64 = 1e-3;
/// What a contender may take in all its turns together, three turns excepted.
const BUDGET: f64 = 0.6;
const LEAST_TURNS: usize = 3;

/// One contender's seconds per call, turn by turn.
pub struct Times {
    /// Whose.
    pub contender: Contender,
    turns: Vec<f64>,
}

impl Times {
    /// The median.
    pub fn seconds(&self) -> f64 {
        median(self.turns.clone())
    }

    /// How many times as fast as `other`: the median over the turns that both took.
    pub fn speed_against(&self, other: &Self) -> f64 {
        let pairs = self.turns.iter().zip(&other.turns);
        median(pairs.map(|(own, other)| other / own).collect())
    }
}

/// Lets `contenders` take `rounds` turns each, fewer where a call is slow.
pub fn interleaved(case: &mut dyn Case, contenders: &[Contender], rounds: usize) -> Vec<Times> {
    let mut plans: Vec<(u64, usize)> = Vec::new();
    for &contender in contenders {
        plans.push(plan(case, contender, rounds));
    }
    let mut times: Vec<Times> = contenders
        .iter()
        .map(|&contender| Times {
            contender,
            turns: Vec::new(),
        })
        .collect();
    for round in 0..rounds {
        for (times, &(calls, turns)) in times.iter_mut().zip(&plans) {
            if round < turns {
                let seconds = time(case, times.contender, calls);
                times.turns.push(seconds / calls as f64);
            }
        }
    }
    times
}

/// Calls per turn, and turns. Warms up by the way.
fn plan(case: &mut dyn Case, contender: Contender, rounds: usize) -> (u64, usize) {
    let mut calls = 1;
    loop {
        let seconds = time(case, contender, calls);
        if seconds >= TURN {
            let turns = (BUDGET / seconds) as usize;
            return (calls, turns.max(LEAST_TURNS).min(rounds));
        }
        calls = (calls as f64 * (1.2 * TURN / seconds).clamp(1.5, 10.0)).ceil() as u64;
    }
}

fn time(case: &mut dyn Case, contender: Contender, calls: u64) -> f64 {
    let start = Instant::now();
    case.run(contender, calls);
    start.elapsed().as_secs_f64()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let (low, high) = (figures[(figures.len() - 1) / 2], figures[figures.len() / 2]);
    (low + high) / 2.0
}
