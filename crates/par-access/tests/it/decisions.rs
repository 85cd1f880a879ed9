//! The decision, as a table and as properties.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use par_access::{Access, Action, AgentRules, AgentsMay, Caller, Policy, Rules, Shown, Standing};
use par_model::{AgentId, CallError, Scope};
use proptest::prelude::*;

fn id(name: &str) -> AgentId {
    name.parse().expect("an id")
}

fn standing(scopes: &[&str], roles: &[&str]) -> Standing {
    Standing {
        scopes: scopes
            .iter()
            .map(|word| word.parse().expect("a scope"))
            .collect(),
        roles: roles
            .iter()
            .map(|word| word.parse().expect("a role"))
            .collect(),
    }
}

fn token(scopes: &[&str], roles: &[&str]) -> Caller {
    Caller::Token("t".parse().expect("a name"), standing(scopes, roles))
}

/// `guarded` requires a role, `bound` may call `plain` alone.
fn access(agents: AgentsMay) -> Access {
    let guarded = AgentRules {
        roles: [
            "staff".parse().expect("a role"),
            "boss".parse().expect("a role"),
        ]
        .into(),
        calls: None,
    };
    let bound = AgentRules {
        roles: BTreeSet::new(),
        calls: Some([id("plain"), id("guarded")].into()),
    };
    let rules: Rules = [(id("guarded"), guarded), (id("bound"), bound)]
        .into_iter()
        .collect();
    Access {
        policy: Arc::new(Policy::new(agents, BTreeMap::new(), &BTreeMap::new())),
        rules: Arc::new(rules),
        ..Access::default()
    }
}

fn allows(caller: &Caller, action: Action<'_>) -> bool {
    access(AgentsMay::CallEachOther)
        .decide(caller, action)
        .is_ok()
}

#[test]
fn each_scope_allows_what_it_says_and_nothing_else() {
    let actions = [
        Action::CheckLiveness,
        Action::Read,
        Action::Deploy,
        Action::Administer,
        Action::Call("plain"),
        Action::Call("other"),
    ];
    for (scopes, allowed) in [
        (&[][..], [true, false, false, false, false, false]),
        (&["read"], [true, true, false, false, false, false]),
        (&["deploy"], [true, true, true, false, false, false]),
        (&["call"], [true, false, false, false, true, true]),
        (&["call:plain"], [true, false, false, false, true, false]),
        (
            &["call:plain", "read"],
            [true, true, false, false, true, false],
        ),
        (&["admin"], [true; 6]),
    ] {
        let caller = token(scopes, &[]);
        let found = actions.map(|action| allows(&caller, action));
        assert_eq!(found, allowed, "{scopes:?}");
    }
}

#[test]
fn an_agent_that_requires_a_role_is_called_by_those_who_have_it() {
    let guarded = Action::Call("guarded");
    assert!(allows(&token(&["call"], &["staff"]), guarded));
    assert!(allows(
        &token(&["call:guarded"], &["other", "boss"]),
        guarded
    ));
    assert!(allows(&token(&["admin"], &[]), guarded));
    assert!(!allows(&token(&["call"], &["other"]), guarded));
    assert!(!allows(&token(&[], &["staff"]), guarded));
    assert!(allows(&Caller::Local, guarded));
}

#[test]
fn who_may_not_list_agents_hears_the_same_of_a_guarded_and_of_an_unknown_one() {
    let access = access(AgentsMay::CallEachOther);
    let told = |caller: &Caller, agent: &str| {
        let denial = access
            .decide(caller, Action::Call(agent))
            .expect_err("denied");
        denial.to_error()
    };
    let blind = token(&["call"], &[]);
    assert_eq!(
        told(&blind, "guarded"),
        CallError::UnknownAgent("guarded".to_owned())
    );
    let elsewhere = token(&["call:plain"], &[]);
    let words = |agent: &str| told(&elsewhere, agent).to_string().replace(agent, "X");
    assert_eq!(words("guarded"), words("nobody"));
    let seeing = token(&["call", "read"], &[]);
    let CallError::Forbidden(words) = told(&seeing, "guarded") else {
        panic!("it may know");
    };
    assert!(
        words.contains("`staff`") && words.contains("`boss`"),
        "{words}"
    );
}

#[test]
fn agents_call_as_they_were_granted() {
    let (open, granted) = (
        access(AgentsMay::CallEachOther),
        access(AgentsMay::CallNobody),
    );
    for (caller, target, when_open, when_granted) in [
        ("free", "plain", true, false),
        ("free", "free", true, true),
        ("free", "guarded", false, false),
        ("bound", "plain", true, true),
        ("bound", "guarded", true, true),
        ("bound", "free", false, false),
    ] {
        let caller = Caller::Agent(id(caller));
        let action = Action::Call(target);
        assert_eq!(
            open.decide(&caller, action).is_ok(),
            when_open,
            "{caller} {target}"
        );
        assert_eq!(
            granted.decide(&caller, action).is_ok(),
            when_granted,
            "{caller} {target}"
        );
    }
    let agent = Caller::Agent(id("free"));
    for action in [Action::Read, Action::Deploy, Action::Administer] {
        assert!(open.decide(&agent, action).is_err(), "{action:?}");
    }
}

#[test]
fn what_a_role_may_do_is_added_to_what_was_given() {
    let roles = BTreeMap::from([("ops".parse().expect("a role"), [Scope::Deploy].into())]);
    let policy = Policy::new(
        AgentsMay::default(),
        roles,
        &BTreeMap::from([("node-1".to_owned(), ["ops".parse().expect("a role")].into())]),
    );
    let widened = policy.widened(standing(&["call:a"], &["ops"]));
    assert!(widened.scopes.contains(&Scope::Deploy) && widened.scopes.len() == 2);
    let access = Access {
        policy: Arc::new(policy),
        ..Access::default()
    };
    let caller = access.identify_silent(Some("node-1")).expect("known");
    assert!(access.decide(&caller, Action::Deploy).is_ok());
    assert!(access.decide(&caller, Action::Administer).is_err());
    assert!(access.identify_silent(Some("node-2")).is_err());
    assert!(access.identify_silent(None).is_err());
}

fn scopes() -> impl Strategy<Value = BTreeSet<Scope>> {
    let all = [
        "admin",
        "deploy",
        "read",
        "call",
        "call:plain",
        "call:guarded",
    ];
    let words = proptest::sample::subsequence(all.to_vec(), 0..=all.len());
    words.prop_map(|words| {
        words
            .iter()
            .map(|word| word.parse().expect("a scope"))
            .collect()
    })
}

proptest! {
    #[test]
    fn more_scopes_never_allow_less(few in scopes(), more in scopes(), agent in "plain|guarded|[a-z]{1,4}") {
        let caller = |scopes| Caller::Token("t".parse().expect("a name"), Standing { scopes, roles: BTreeSet::new() });
        let both = caller(few.union(&more).cloned().collect());
        let few = caller(few);
        for action in [Action::Read, Action::Deploy, Action::Administer, Action::Call(&agent)] {
            prop_assert!(!allows(&few, action) || allows(&both, action), "{:?}", action);
        }
    }

    #[test]
    fn a_hostile_name_is_cut_and_escaped_where_it_is_told(agent in ".{0,300}") {
        let denial = access(AgentsMay::CallEachOther).decide(&token(&["call:plain"], &[]), Action::Call(&agent));
        if let Err(denial) = denial {
            prop_assert!(denial.reason.len() < 2000 && !denial.reason.contains('\n'));
            prop_assert!(matches!(denial.shown, Shown::Forbidden(_)));
        }
    }
}
