//! One choice for each of many: the least cost within a budget.
//!
//! This is the multiple-choice knapsack problem. It is solved exactly: a Lagrange multiplier gives a
//! bound below and a choice above it, which mostly are a hair apart, and a dynamic program over the
//! choices that could still lie between them finds the best one (Nemhauser and Ullmann's lists of
//! states none of which is worse than another in both respects, pruned by reduced costs).

/// States that the dynamic program keeps for an item at most, and for all of them: half a gigabyte.
const STATES: usize = 1 << 14;
const ALL_STATES: usize = 1 << 24;

/// States for each of so many items.
fn most_states(items: usize) -> usize {
    (ALL_STATES / items.max(1)).clamp(1, STATES)
}

/// What a choice takes of the budget, and what it costs. Neither is negative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Choice {
    pub weight: f64,
    pub cost: f64,
}

/// What was chosen.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    /// An index for each item.
    pub picks: Vec<usize>,
    /// What no choice within the budget costs less than; its own cost where it is the best.
    pub bound: f64,
}

/// The choices of least cost whose weights are no more than the budget in all; `None` where there are
/// none. The same choices give the same result on every machine.
pub(crate) fn solve(items: &[Vec<Choice>], budget: f64) -> Option<Chosen> {
    let hulls: Vec<Vec<usize>> = items.iter().map(|choices| hull(choices)).collect();
    let (picks, multiplier) = greedy(items, &hulls, budget)?;
    let cost = total(items, &picks, |choice| choice.cost);
    let Some(multiplier) = multiplier else {
        // Each item has the best that there is for it.
        return Some(Chosen { picks, bound: cost });
    };
    let penalty = |choice: &Choice| choice.cost + multiplier * choice.weight;
    let least: Vec<f64> = items
        .iter()
        .map(|choices| choices.iter().map(penalty).fold(f64::INFINITY, f64::min))
        .collect();
    let bound = least.iter().sum::<f64>() - multiplier * budget;
    let reduced = Reduced {
        items,
        least,
        multiplier,
        gap: cost - bound,
    };
    let (better, is_complete) = reduced.better(budget);
    let picks = match better {
        Some(better) if total(items, &better, |choice| choice.cost) < cost => better,
        _ => picks,
    };
    let cost = total(items, &picks, |choice| choice.cost);
    let bound = if is_complete { cost } else { bound.min(cost) };
    Some(Chosen { picks, bound })
}

pub(crate) fn total(items: &[Vec<Choice>], picks: &[usize], what: impl Fn(&Choice) -> f64) -> f64 {
    let picked = items.iter().zip(picks);
    picked.map(|(choices, &pick)| what(&choices[pick])).sum()
}

/// The choices on the lower convex hull of weight and cost, the lightest first.
fn hull(choices: &[Choice]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..choices.len()).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (choices[a], choices[b]);
        a.weight
            .total_cmp(&b.weight)
            .then(a.cost.total_cmp(&b.cost))
    });
    let mut hull: Vec<usize> = Vec::new();
    for next in order {
        if let Some(&last) = hull.last()
            && choices[next].cost >= choices[last].cost
        {
            continue;
        }
        while let [.., before, last] = hull[..]
            && slope(choices[before], choices[last]) <= slope(choices[last], choices[next])
        {
            hull.pop();
        }
        hull.push(next);
    }
    hull
}

/// Cost that is saved per weight.
fn slope(from: Choice, to: Choice) -> f64 {
    (from.cost - to.cost) / (to.weight - from.weight)
}

/// Takes the steps along the hulls that save most per weight, as long as they fit; and the slope of the
/// first one that does not.
fn greedy(
    items: &[Vec<Choice>],
    hulls: &[Vec<usize>],
    budget: f64,
) -> Option<(Vec<usize>, Option<f64>)> {
    let mut at = vec![0; items.len()];
    let mut steps = Vec::new();
    let mut weight = 0.0;
    for (item, hull) in hulls.iter().enumerate() {
        weight += items[item][*hull.first()?].weight;
        for (step, pair) in hull.windows(2).enumerate() {
            let (from, to) = (items[item][pair[0]], items[item][pair[1]]);
            steps.push((slope(from, to), item, step, to.weight - from.weight));
        }
    }
    if weight > budget {
        return None;
    }
    // Of one item, steepest steps are first; so they are with equal slopes.
    steps.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    let mut multiplier = None;
    for (slope, item, step, more) in steps {
        if weight + more > budget {
            multiplier.get_or_insert(slope);
        } else if at[item] == step {
            at[item] = step + 1;
            weight += more;
        }
    }
    let picks = at.iter().zip(hulls).map(|(&at, hull)| hull[at]);
    Some((picks.collect(), multiplier))
}

/// The choices that could be part of something better.
struct Reduced<'a> {
    items: &'a [Vec<Choice>],
    /// Per item, the least cost with the multiplier's price of its weight.
    least: Vec<f64>,
    multiplier: f64,
    /// What all choices may exceed `least` by in all.
    gap: f64,
}

/// Choices for the first items.
#[derive(Clone, Copy)]
struct State {
    weight: f64,
    cost: f64,
    /// What they exceed `least` by.
    excess: f64,
    /// The state before, and the choice that follows it.
    from: (u32, u32),
}

impl Reduced<'_> {
    /// Something better than what the gap is to; and whether nothing was left out on the way.
    fn better(&self, budget: f64) -> (Option<Vec<usize>>, bool) {
        let start = State {
            weight: 0.0,
            cost: 0.0,
            excess: 0.0,
            from: (0, 0),
        };
        let mut lightest: f64 = self.items.iter().map(|item| lightest(item)).sum();
        let most = most_states(self.items.len());
        let (mut stages, mut is_complete) = (vec![vec![start]], true);
        for (item, choices) in self.items.iter().enumerate() {
            lightest -= self::lightest(choices);
            let before = stages.last().expect("the first one");
            let mut next = self.extended(item, before, budget - lightest.max(0.0));
            keep_best(&mut next);
            if next.len() > most {
                is_complete = false;
                next.sort_by(|a, b| a.excess.total_cmp(&b.excess));
                next.truncate(most);
            }
            stages.push(next);
        }
        let last = stages.last().expect("the first one");
        let fits = last
            .iter()
            .enumerate()
            .filter(|(_, state)| state.weight <= budget);
        let best = fits.min_by(|(_, a), (_, b)| a.cost.total_cmp(&b.cost));
        let Some((mut at, _)) = best else {
            return (None, is_complete);
        };
        let mut picks = Vec::new();
        for stage in stages[1..].iter().rev() {
            let (before, pick) = stage[at].from;
            picks.push(pick as usize);
            at = before as usize;
        }
        picks.reverse();
        (Some(picks), is_complete)
    }

    fn extended(&self, item: usize, before: &[State], budget: f64) -> Vec<State> {
        let mut next = Vec::new();
        for (at, state) in before.iter().enumerate() {
            for (pick, choice) in self.items[item].iter().enumerate() {
                let price = choice.cost + self.multiplier * choice.weight;
                let excess = state.excess + (price - self.least[item]);
                let weight = state.weight + choice.weight;
                if excess < self.gap && weight <= budget {
                    next.push(State {
                        weight,
                        cost: state.cost + choice.cost,
                        excess,
                        from: (at as u32, pick as u32),
                    });
                }
            }
        }
        next
    }
}

fn lightest(choices: &[Choice]) -> f64 {
    let weights = choices.iter().map(|choice| choice.weight);
    weights.fold(f64::INFINITY, f64::min)
}

/// Drops states that are both heavier and more costly than another.
fn keep_best(states: &mut Vec<State>) {
    states.sort_by(|a, b| {
        a.weight
            .total_cmp(&b.weight)
            .then(a.cost.total_cmp(&b.cost))
    });
    let mut least = f64::INFINITY;
    states.retain(|state| {
        let keep = state.cost < least;
        least = least.min(state.cost);
        keep
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The best of all combinations.
    fn by_trying(items: &[Vec<Choice>], budget: f64) -> Option<f64> {
        let mut states = vec![(0.0, 0.0)];
        for choices in items {
            states = states
                .iter()
                .flat_map(|(weight, cost)| {
                    choices
                        .iter()
                        .map(move |choice| (weight + choice.weight, cost + choice.cost))
                })
                .collect();
        }
        let fits = states.into_iter().filter(|(weight, _)| *weight <= budget);
        fits.map(|(_, cost)| cost).reduce(f64::min)
    }

    #[test]
    fn states_of_many_items_keep_to_the_memory() {
        assert_eq!(most_states(1000), STATES);
        for items in [0, 1025, 100_000, 1 << 24, 1 << 30] {
            let states = most_states(items);
            assert!(
                states > 0 && states * items <= ALL_STATES.max(items),
                "{items}"
            );
        }
    }

    #[test]
    fn nothing_is_better_than_what_is_chosen() {
        let mut seed = 1_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for round in 0..600 {
            let items: Vec<Vec<Choice>> = (0..1 + random(6))
                .map(|_| {
                    (0..1 + random(5))
                        .map(|_| Choice {
                            weight: (1 + random(40)) as f64,
                            cost: random(60) as f64,
                        })
                        .collect()
                })
                .collect();
            let budget = random(160) as f64;
            let best = by_trying(&items, budget);
            let chosen = solve(&items, budget);
            assert_eq!(chosen.is_some(), best.is_some(), "{round}: {items:?}");
            if let (Some(chosen), Some(best)) = (chosen, best) {
                let weight = total(&items, &chosen.picks, |choice| choice.weight);
                assert!(weight <= budget, "{round}: {items:?}");
                let cost = total(&items, &chosen.picks, |choice| choice.cost);
                assert_eq!((cost, chosen.bound), (best, best), "{round}: {items:?}");
            }
        }
    }
}
