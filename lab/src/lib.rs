//! A small AWS on loopback, to try deployments with the real function binaries.
//!
//! Every stand-in speaks the wire protocol of its service, so that the functions, the AWS SDKs and the AWS CLI
//! reach it with nothing but an endpoint URL. Nothing outside this crate knows that it exists.

#![allow(clippy::disallowed_methods, reason = "the lab runs on the real clock")]

pub mod account;
pub mod api;
pub mod application;
pub mod cloudwatch;
pub mod codedeploy;
pub mod doubts;
pub mod ecs;
pub mod elbv2;
pub mod endpoint;
pub mod eventbridge;
pub mod fault;
pub mod fleet;
pub mod function_site;
pub mod iam;
pub mod injection;
pub mod lambda;
pub mod load_balancer;
pub mod logs;
pub mod meter;
mod past;
pub mod quota;
mod recorded;
pub mod s3;
pub mod scenario;
pub mod service;
pub mod site;
pub mod sns;
pub mod ssm;
pub mod stepfunctions;
mod subscription;
pub mod template;
pub mod traffic;
pub mod underway;
pub mod world;
