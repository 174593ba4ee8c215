//! One world to run: what names it on the command line, to workers, and in the file of failures.

use anyhow::Context as _;
use cairn_simulation::{Bug, Plan, scenarios};
use clap::Args;
use serde::{Deserialize, Serialize};

/// A seed, and what else makes its plan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Job {
    /// The seed.
    pub seed: u64,
    /// What else.
    #[serde(flatten)]
    pub shape: Shape,
}

/// What makes a plan out of a seed.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Shape {
    /// Only worlds of so many nodes: 3, 5 or 7
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u64>,
    /// Worlds in which the steps of this scenario happen, and nothing else
    #[arg(long)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scenario: Option<String>,
    /// Worlds with this bug planted
    #[arg(long, hide = true)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bug: Option<String>,
}

impl Job {
    pub(crate) fn plan(&self) -> anyhow::Result<Plan> {
        let plan = match self.shape.nodes {
            None => Plan::draw(self.seed),
            Some(nodes @ (3 | 5 | 7)) => Plan::draw_of(self.seed, nodes),
            Some(nodes) => anyhow::bail!("--nodes {nodes}: a world has 3, 5 or 7 nodes"),
        };
        let named = |name: &String| Bug::named(name).with_context(|| format!("--bug {name}: there is no such bug"));
        let plan = Plan { bug: self.shape.bug.as_ref().map(named).transpose()?, ..plan };
        let Some(name) = &self.shape.scenario else { return Ok(plan) };
        let scenario = scenarios::ALL.iter().find(|scenario| scenario.name == name).with_context(|| {
            let names: Vec<_> =
                scenarios::ALL.iter().map(|scenario| format!("  {}: {}", scenario.name, scenario.steps)).collect();
            format!("--scenario {name}: there is no such scenario. There are\n{}", names.join("\n"))
        })?;
        Ok(scenario.plan(plan))
    }

    /// The command that runs it again.
    pub(crate) fn replay_command(&self) -> String {
        let nodes = self.shape.nodes.map_or_else(String::new, |nodes| format!(" --nodes {nodes}"));
        let scenario = self.shape.scenario.as_ref().map_or_else(String::new, |name| format!(" --scenario {name}"));
        let bug = self.shape.bug.as_ref().map_or_else(String::new, |name| format!(" --bug {name}"));
        format!("cargo simulate replay --seed {}{nodes}{scenario}{bug} --trace", self.seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_reads_back_what_was_written_and_old_lines_need_name_no_shape() {
        let job = Job { seed: 7, shape: Shape { nodes: Some(5), scenario: Some("all-down".to_owned()), bug: None } };
        let line = serde_json::to_string(&job).expect("serializes");
        assert_eq!(serde_json::from_str::<Job>(&line).expect("reads"), job);
        assert_eq!(serde_json::from_str::<Job>(r#"{"seed":7}"#).expect("reads"), Job { seed: 7, shape: Shape::default() });
    }

    #[test]
    fn a_replay_command_names_everything_that_makes_the_plan() {
        let job = Job { seed: 7, shape: Shape { nodes: Some(5), scenario: Some("all-down".to_owned()), bug: None } };
        assert_eq!(job.replay_command(), "cargo simulate replay --seed 7 --nodes 5 --scenario all-down --trace");
    }

    #[test]
    fn an_unknown_scenario_and_an_impossible_number_of_nodes_are_errors() {
        let plan = |shape: Shape| Job { seed: 1, shape }.plan().map_err(|error| error.to_string());
        let unknown = plan(Shape { scenario: Some("none".to_owned()), ..Shape::default() }).expect_err("is unknown");
        assert!(unknown.contains("leader-isolated"), "{unknown}");
        assert!(plan(Shape { nodes: Some(4), ..Shape::default() }).is_err());
        assert!(plan(Shape { bug: Some("none".to_owned()), ..Shape::default() }).is_err());
    }
}
