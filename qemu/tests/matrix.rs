//! Matrices that are part of the project are read as such.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs, reason = "tests")]

use std::fs;
use std::path::Path;

use rcapture_qemu::run::{Way, read_matrix};
use yaml_rust2::{Yaml, YamlLoader};

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[test]
fn the_projects_matrix_has_scenarios_of_every_architecture_and_way_to_crash() {
    let scenarios = read_matrix(&project().join("tests/matrix.toml")).unwrap();
    for arch in rcapture_qemu::Arch::ALL {
        assert!(scenarios.iter().any(|scenario| scenario.arch == Some(arch)), "{}", arch.name());
    }
    for way in [Way::Sysrq, Way::Nullptr, Way::Bug, Way::PanicIrqoff, Way::Hung, Way::StackOverflow] {
        assert!(scenarios.iter().any(|scenario| scenario.crash == way), "{way:?}");
    }
}

/// The examples of the manual in a language.
fn examples(language: &str) -> Vec<String> {
    let manual = fs::read_to_string(project().join("docs/ci.md")).unwrap();
    let fence = format!("```{language}\n");
    manual.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_manuals_matrix_is_one_of_a_kernel_that_is_built_in_place() {
    let source = tempfile::tempdir().unwrap();
    let path = source.path().join("ci/crash.toml");
    fs::create_dir(path.parent().unwrap()).unwrap();
    // That a scenario of its own may follow is shown apart.
    fs::write(&path, examples("toml").concat()).unwrap();
    let scenarios = read_matrix(&path).unwrap();
    assert_eq!(scenarios.len(), 3);
    for scenario in &scenarios {
        assert_eq!(scenario.kernel.as_deref(), Some(&*source.path().join("ci/../arch/x86/boot/bzImage")));
        assert_eq!(scenario.vmlinux.as_deref(), Some(&*source.path().join("ci/../vmlinux")));
    }
}

#[test]
fn the_manuals_pipelines_run_its_matrix_with_caches_in_the_workspace() {
    let [github, gitlab] = &examples("yaml")[..] else { panic!("there are other examples") };
    let commands = |commands: &Yaml| -> Vec<String> {
        commands.as_vec().unwrap().iter().map(|command| command.as_str().unwrap().to_owned()).collect()
    };
    let job = &YamlLoader::load_from_str(github).unwrap()[0]["jobs"]["crash"];
    let steps = job["steps"].as_vec().unwrap();
    let runs: Vec<&str> = steps.iter().filter_map(|step| step["run"].as_str()).collect();
    assert!(runs.iter().any(|run| run.contains("run --matrix ci/crash.toml -o crash")));
    // In a container, what is between braces is the path outside of it.
    assert!(!github.contains("github.workspace"));
    for variable in ["CARGO_HOME=$GITHUB_WORKSPACE/.cargo-home", "XDG_CACHE_HOME=$GITHUB_WORKSPACE/.cache"] {
        assert!(runs[0].contains(&format!("echo \"{variable}\" >> \"$GITHUB_ENV\"")), "{variable}");
    }
    let kept = steps.iter().find_map(|step| step["with"]["key"].as_str().and(step["with"]["path"].as_str()));

    let job = &YamlLoader::load_from_str(gitlab).unwrap()[0]["crash"];
    assert!(commands(&job["script"]).iter().any(|run| run.contains("run --matrix ci/crash.toml -o crash")));
    assert!(!commands(&job["before_script"]).is_empty());
    let mut kept: Vec<&str> = kept.unwrap().lines().collect();
    let mut kept_by_gitlab = commands(&job["cache"]["paths"]);
    kept.sort_unstable();
    kept_by_gitlab.sort_unstable();
    assert_eq!(kept, kept_by_gitlab);
}
