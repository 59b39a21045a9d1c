//! Jobs of each system, as their documentation describes the environment.

use super::*;
use ssh_key::{
    PrivateKey,
    private::{Ed25519Keypair, KeypairData},
};

fn job(variables: &[(&str, &str)]) -> CiJob {
    CiJob::detect(|wanted| variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.into()))
}

/// System, title, URL and reference.
fn seen(job: &CiJob) -> (CiSystem, String, String, String) {
    let name = |text: &Option<Name>| text.as_ref().map(ToString::to_string).unwrap_or_default();
    let url = job.url.as_ref().map(ToString::to_string).unwrap_or_default();
    (job.system, name(&job.title()), url, name(&job.reference))
}

fn expected(system: CiSystem, title: &str, url: &str, reference: &str) -> (CiSystem, String, String, String) {
    (system, title.into(), url.into(), reference.into())
}

const GITHUB: [(&str, &str); 8] = [
    ("CI", "true"),
    ("GITHUB_ACTIONS", "true"),
    ("GITHUB_JOB", "test"),
    ("GITHUB_SERVER_URL", "https://github.com"),
    ("GITHUB_REPOSITORY", "octocat/Hello-World"),
    ("GITHUB_RUN_ID", "1658821493"),
    ("GITHUB_RUN_NUMBER", "3"),
    ("GITHUB_REF_NAME", "main"),
];

#[test]
fn github_actions_is_recognised() {
    let url = "https://github.com/octocat/Hello-World/actions/runs/1658821493";
    let known = expected(CiSystem::GithubActions, "octocat/Hello-World: test #3", url, "main");
    assert_eq!(seen(&job(&GITHUB)), known);
    // On a server below a path, as enterprises have them; for a pull request.
    let mut variables = GITHUB.to_vec();
    variables[3].1 = "https://git.example/hub/";
    variables.push(("GITHUB_HEAD_REF", "fix"));
    let job = job(&variables);
    assert_eq!(
        job.url.unwrap().as_str(),
        "https://git.example/hub/octocat/Hello-World/actions/runs/1658821493"
    );
    assert_eq!(job.reference.unwrap().as_str(), "fix");
}

#[test]
fn gitlab_is_recognised() {
    let job = job(&[
        ("CI", "true"),
        ("GITLAB_CI", "true"),
        ("CI_JOB_NAME", "test 1/3"),
        ("CI_JOB_URL", "https://gitlab.example/group/project/-/jobs/17"),
        ("CI_PROJECT_PATH", "group/project"),
        ("CI_COMMIT_REF_NAME", "v1.0"),
        ("CI_PIPELINE_IID", "9"),
    ]);
    let url = "https://gitlab.example/group/project/-/jobs/17";
    assert_eq!(seen(&job), expected(CiSystem::GitlabCi, "group/project: test 1/3 #9", url, "v1.0"));
}

#[test]
fn jenkins_is_recognised_with_and_without_its_own_url() {
    let url = "http://jenkins.example:8080/jenkins/job/foo/job/bar/15/";
    let variables = [
        ("BUILD_TAG", "jenkins-foo-bar-15"),
        ("JOB_NAME", "foo/bar"),
        ("BUILD_NUMBER", "15"),
        ("GIT_BRANCH", "origin/main"),
        ("JENKINS_URL", "http://jenkins.example:8080/jenkins/"),
        ("BUILD_URL", url),
        ("BRANCH_NAME", "main"),
    ];
    assert_eq!(seen(&job(&variables)), expected(CiSystem::Jenkins, "foo/bar #15", url, "main"));
    assert_eq!(seen(&job(&variables[..4])), expected(CiSystem::Jenkins, "foo/bar #15", "", "origin/main"));
    assert_eq!(job(&[("BUILD_TAG", "nightly-7"), ("JOB_NAME", "x")]), CiJob::default());
}

#[test]
fn circleci_is_recognised() {
    let url = "https://circleci.com/gh/acme/rockets/42";
    let variables = [
        ("CI", "true"),
        ("CIRCLECI", "true"),
        ("CIRCLE_JOB", "build"),
        ("CIRCLE_BUILD_URL", url),
        ("CIRCLE_BUILD_NUM", "42"),
        ("CIRCLE_BRANCH", "main"),
        ("CIRCLE_PROJECT_REPONAME", "rockets"),
        ("CIRCLE_PROJECT_USERNAME", "acme"),
    ];
    let job_of_both = expected(CiSystem::CircleCi, "acme/rockets: build #42", url, "main");
    assert_eq!(seen(&job(&variables)), job_of_both);
    assert_eq!(job(&variables[..7]).repository.unwrap().as_str(), "rockets");
}

#[test]
fn buildkite_is_recognised() {
    let url = "https://buildkite.com/acme-inc/my-project/builds/1514";
    let job = job(&[
        ("BUILDKITE", "true"),
        ("BUILDKITE_LABEL", ":hammer: Specs"),
        ("BUILDKITE_BUILD_URL", url),
        ("BUILDKITE_BUILD_NUMBER", "1514"),
        ("BUILDKITE_PIPELINE_SLUG", "my-project"),
        ("BUILDKITE_REPO", "https://kim:secret@git.example/my-project"),
        ("BUILDKITE_BRANCH", "main"),
    ]);
    assert_eq!(seen(&job), expected(CiSystem::Buildkite, "my-project: :hammer: Specs #1514", url, "main"));
    assert!(!format!("{job:?}").contains("secret"));
}

#[test]
fn azure_pipelines_is_recognised() {
    let job = job(&[
        ("TF_BUILD", "True"),
        ("SYSTEM_JOBDISPLAYNAME", "Unit tests"),
        ("SYSTEM_COLLECTIONURI", "https://dev.azure.com/fabrikamfiber/"),
        ("SYSTEM_TEAMPROJECT", "Fabrikam Fiber/Web"),
        ("BUILD_BUILDID", "17&x=1"),
        ("BUILD_BUILDNUMBER", "20261121.1"),
        ("BUILD_REPOSITORY_NAME", "web"),
        ("BUILD_SOURCEBRANCHNAME", "main"),
    ]);
    let url = "https://dev.azure.com/fabrikamfiber/Fabrikam%20Fiber%2FWeb/_build/results?buildId=17%26x%3D1";
    assert_eq!(seen(&job), expected(CiSystem::AzurePipelines, "web: Unit tests #20261121.1", url, "main"));
}

#[test]
fn others_are_not_guessed() {
    assert_eq!(job(&[("CI", "true")]), CiJob { system: CiSystem::Other, ..CiJob::default() });
    for variables in [&[][..], &[("CI", "false")], &[("GITHUB_ACTIONS", ""), ("GITHUB_JOB", "x")]] {
        assert_eq!(job(variables), CiJob::default());
    }
    assert_eq!(job(&[("BUILDKITE", "true")]).title(), None);
    assert_eq!(CiSystem::Other.name(), None);
}

#[test]
fn what_was_given_counts_more() {
    let job = job(&GITHUB).with(Some(" nightly "), Some("https://ci.example/7"));
    assert_eq!(job.title().unwrap().as_str(), "nightly");
    assert_eq!(job.url.as_ref().unwrap().as_str(), "https://ci.example/7");
    let info = job.clone().with(None, None).describe(AgentInfo::default());
    assert_eq!(info.job.unwrap().as_str(), "nightly");
    assert_eq!(info.job_url.unwrap().as_str(), "https://ci.example/7");
    assert_eq!(info.ci.unwrap().as_str(), "GitHub Actions");
    // Nothing is better than what leads elsewhere.
    assert_eq!(job.with(None, Some("javascript:alert(1)")).url, None);
}

#[test]
fn only_web_urls_are_shown_and_no_passwords() {
    for url in [
        "javascript:alert(1)",
        "ftp://ci.example/",
        "file:///etc/passwd",
        "//ci.example/",
        "ci.example/1",
        "https://",
        "",
    ] {
        assert_eq!(web_url(url), None, "{url}");
    }
    let shown = |url: &str| web_url(url).unwrap().to_string();
    assert_eq!(shown("https://kim:secret@ci.example/1"), "https://ci.example/1");
    assert_eq!(shown("http://ci.example/a b\u{1b}[2J\u{202e}"), "http://ci.example/a%20b%1B[2J%E2%80%AE");
    let long = |length: usize| format!("https://ci.example/{}", "x".repeat(length - 19));
    assert_eq!(shown(&long(512)), long(512));
    assert_eq!(web_url(&long(513)), None);
    // 219 bytes as it is, and more than 512 as a URL.
    assert_eq!(web_url(&format!("https://ci.example/{}", "ä".repeat(100))), None);
}

#[test]
fn texts_are_cut_and_harmless() {
    let long = "x".repeat(200);
    let job = job(&[
        ("GITLAB_CI", "true"),
        ("CI_JOB_NAME", "a\n::error::b\u{1b}[2J"),
        ("CI_PROJECT_PATH", &long),
        ("CI_COMMIT_REF_NAME", &"x".repeat(20_000)),
    ]);
    assert_eq!(job.name.as_ref().unwrap().as_str(), "a\u{fffd}::error::b\u{fffd}[2J");
    assert_eq!(job.repository.as_ref().unwrap().as_str().len(), 128);
    assert_eq!(job.title().unwrap().as_str().len(), 128);
    assert_eq!(job.reference, None, "nonsense");
}

fn announcement() -> Announcement {
    let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&[1; 32]));
    let key = PrivateKey::new(pair, "").unwrap();
    let host_key = converge_proto::HostKey::new(key.public_key()).unwrap();
    Announcement::new("https://relay:4433/100%25".parse().unwrap(), "lusab-babad".parse().unwrap(), host_key)
}

fn announced(job: &CiJob) -> String {
    let mut out = Vec::new();
    job.announce(&announcement(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn github_shows_a_notice_and_a_summary() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("summary");
    std::fs::write(&file, "# Before\n").unwrap();
    let mut variables = GITHUB.to_vec();
    variables.push(("GITHUB_STEP_SUMMARY", file.to_str().unwrap()));
    let job = job(&variables);

    let command = announcement().ssh_command();
    let notice = format!("::notice title=Open for ssh::{}\n", command.replace('%', "%25"));
    assert!(command.contains('%') && announced(&job) == notice, "{notice}");
    let summary = std::fs::read_to_string(&file).unwrap();
    assert!(summary.starts_with("# Before\n\n### Open for ssh as lusab-babad\n\n"), "{summary}");
    assert!(summary.contains(&format!("\n```sh\n{command}\n")), "{summary}");
    assert!(summary.contains("\nMore ways: <https://relay:4433/100%25/client/lusab-babad."), "{summary}");

    // A step that has filled its summary keeps it: with more than 1 MiB GitHub would show nothing of it.
    let added = summary.len() - "# Before\n".len();
    for (size, fits) in [(1024 * 1024 - added, true), (1024 * 1024 - added + 1, false)] {
        std::fs::write(&file, "x".repeat(size)).unwrap();
        assert_eq!(announced(&job), notice);
        let expected = if fits { 1024 * 1024 } else { size };
        assert_eq!(std::fs::read(&file).unwrap().len(), expected);
    }

    // A summary that cannot be written is no reason to fail.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert_eq!(announced(&job), notice);
}

#[test]
fn others_get_what_they_have() {
    let of = |system| announced(&CiJob { system, ..CiJob::default() });
    assert_eq!(of(CiSystem::Buildkite), "+++ Open for ssh as lusab-babad\n");
    assert_eq!(of(CiSystem::AzurePipelines), "##[section]Open for ssh as lusab-babad\n");
    for system in [CiSystem::GitlabCi, CiSystem::Jenkins, CiSystem::CircleCi, CiSystem::Other, CiSystem::None]
    {
        assert_eq!(of(system), "");
    }
}
