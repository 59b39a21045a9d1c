//! Jobs that somebody without rights in the repository may have caused, by a pull request from a fork.
//!
//! What tokens tell, and what not:
//! * **GitHub** names the event and the repository that the workflow runs in, and not where a pull request comes from.
//!   A `pull_request` from a fork gets no token in public repositories; in private ones it does when their owner has
//!   switched on "send write tokens". `pull_request_target`, `workflow_run`, `issue_comment` and their like run with the
//!   repository's own rights whoever caused them. So this takes the events that need rights in the repository, and
//!   `pull_request` in public repositories, and refuses all others. It cannot tell what a workflow does with a
//!   stranger's files on an event that is taken.
//! * **GitLab** names the project that the commit comes from (`project_path`) and, in newer versions, the one that the job runs
//!   in (`job_project_path`); they differ for a merge request from a fork that runs in the parent project. An older
//!   GitLab does not tell them apart, so its merge requests are refused. A pipeline in the fork itself is the fork's own
//!   and for the operator's rules to refuse.
//! * Of **others** nothing is known; rules are all there is.

use super::{IssuerKind, OidcRefusal, clipped};
use serde_json::{Map, Value};

/// Events of GitHub that only somebody with rights in the repository causes, or nobody.
const OWN_EVENTS: [&str; 11] = [
    "push",
    "create",
    "delete",
    "schedule",
    "workflow_dispatch",
    "repository_dispatch",
    "release",
    "deployment",
    "deployment_status",
    "merge_group",
    "registry_package",
];

/// # Errors
/// [`OidcRefusal::Fork`], also where it cannot be told.
pub(super) fn check(kind: IssuerKind, claims: &Map<String, Value>) -> Result<(), OidcRefusal> {
    let claim = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    let why = match kind {
        IssuerKind::Github => match claim("event_name") {
            event if OWN_EVENTS.contains(&event) => return Ok(()),
            "pull_request" if claim("repository_visibility") == "public" => return Ok(()),
            "pull_request" => {
                "a pull request of a repository that is not public, which may be from a fork".to_owned()
            }
            event => {
                format!("the event {event:?} may come from a fork or a stranger", event = clipped(event))
            }
        },
        IssuerKind::Gitlab => {
            let (source, runs_in) = (claim("project_path"), claim("job_project_path"));
            let is_merge_request =
                matches!(claim("pipeline_source"), "merge_request_event" | "external_pull_request_event");
            if !runs_in.is_empty() && source != runs_in {
                format!("a merge request from a fork ({})", clipped(source))
            } else if is_merge_request && runs_in.is_empty() {
                "a merge request that may be from a fork, which this GitLab does not tell".to_owned()
            } else {
                return Ok(());
            }
        }
        IssuerKind::Generic => return Ok(()),
    };
    Err(OidcRefusal::Fork(why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(kind: IssuerKind, claims: &Value) -> Option<String> {
        check(kind, claims.as_object().unwrap()).err().map(|refusal| refusal.to_string())
    }

    #[test]
    fn github_events_that_strangers_cause_are_refused() {
        let github = |event: &str, visibility: &str| {
            refusal(IssuerKind::Github, &json!({"event_name": event, "repository_visibility": visibility}))
        };
        for event in OWN_EVENTS {
            assert_eq!(github(event, "private"), None, "{event}");
        }
        assert_eq!(github("pull_request", "public"), None, "GitHub gives forks no token");
        assert!(github("pull_request", "private").unwrap().contains("may be from a fork"));
        assert!(github("pull_request", "").is_some());
        for event in ["pull_request_target", "workflow_run", "issue_comment", "check_suite", "new_event", ""]
        {
            assert!(github(event, "public").unwrap().contains("does not allow"), "{event}");
        }
    }

    #[test]
    fn gitlab_merge_requests_from_forks_are_refused() {
        let gitlab = |claims: Value| refusal(IssuerKind::Gitlab, &claims);
        let of = |source: &str, runs_in: &str, by: &str| {
            gitlab(json!({"project_path": source, "job_project_path": runs_in, "pipeline_source": by}))
        };
        assert_eq!(of("team/app", "team/app", "merge_request_event"), None);
        assert_eq!(of("team/app", "team/app", "push"), None);
        assert!(of("stranger/app", "team/app", "merge_request_event").unwrap().contains("stranger/app"));
        assert!(of("stranger/app", "team/app", "parent_pipeline").is_some());
        assert_eq!(gitlab(json!({"project_path": "team/app", "pipeline_source": "push"})), None);
        let old = json!({"project_path": "team/app", "pipeline_source": "merge_request_event"});
        assert!(gitlab(old).unwrap().contains("does not tell"));
    }
}
