//! What to do about a machine that does not give what a profile needs.

use std::fs;
use std::path::Path;

use par_model::Profile;

/// How to get `profile` here, when the kernel refused; none where the reason says all there is.
pub(crate) fn advice(profile: Profile) -> Option<String> {
    match profile {
        Profile::Full | Profile::Userns => {
            namespaces(&|path| fs::read_to_string(path).ok(), &in_container)
        }
        Profile::Restricted => Some("it needs Landlock 6 (Linux 6.12 or newer)".to_owned()),
        Profile::Unsafe => None,
    }
}

/// `read` gives the text of a file of the kernel's.
fn namespaces(
    read: &dyn Fn(&str) -> Option<String>,
    in_container: &dyn Fn() -> bool,
) -> Option<String> {
    let is = |path: &str, value: &str| read(path).is_some_and(|text| text.trim() == value);
    if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        return Some("sysctl kernel.unprivileged_userns_clone=1".to_owned());
    }
    if is("/proc/sys/user/max_user_namespaces", "0") {
        return Some("sysctl user.max_user_namespaces=10000".to_owned());
    }
    if is(
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
    ) {
        return Some(
            "give `par` an AppArmor profile with `userns,`, or: sysctl kernel.apparmor_restrict_unprivileged_userns=0"
                .to_owned(),
        );
    }
    if in_container() {
        return Some(
            "in a container: Docker `--security-opt seccomp=unconfined --security-opt systempaths=unconfined`, compose `security_opt: [seccomp=unconfined, systempaths=unconfined]`, Kubernetes `procMount: Unmasked` and `seccompProfile: {type: Unconfined}`"
                .to_owned(),
        );
    }
    None
}

fn in_container() -> bool {
    let marks = ["/.dockerenv", "/run/.containerenv"]
        .iter()
        .any(|path| Path::new(path).exists());
    // The first process of a container has another parent namespace, or was told that it is in one.
    marks
        || std::env::var_os("container").is_some()
        || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_that_is_off_is_named() {
        let off = |switch: &'static str, value: &'static str| {
            move |path: &str| path.ends_with(switch).then(|| format!("{value}\n"))
        };
        for (switch, value, word) in [
            (
                "unprivileged_userns_clone",
                "0",
                "unprivileged_userns_clone=1",
            ),
            ("max_user_namespaces", "0", "max_user_namespaces="),
            ("apparmor_restrict_unprivileged_userns", "1", "AppArmor"),
        ] {
            let advice = namespaces(&off(switch, value), &|| true).expect("advice");
            assert!(advice.contains(word), "{advice}");
        }
        let nothing_is_off = namespaces(&|_| Some("1000".to_owned()), &|| true);
        assert!(nothing_is_off.expect("advice").contains("Docker"));
        assert_eq!(namespaces(&|_| None, &|| false), None);
    }
}
