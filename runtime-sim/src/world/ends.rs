//! How a life ends: by a crash, a failing disk, or an order; and what is left to the next one.

use std::io;

use quoin_core::member::Token;
use quoin_core::node::{Input, Request};
use quoin_core::time::Instant;
use quoin_core::wal::SegmentName;
use quoin_runtime::clock::Time as _;

use super::{Life, World};
use crate::fuse::{Strike, Touch};
use crate::judge::Violation;
use crate::swarm::one_of;

impl World {
    /// Plans an error of the disk or the table for the next life.
    pub(super) fn plan_error(&mut self) {
        let touch = one_of(&mut self.fate, &Touch::FALLIBLE);
        let spared = one_of(&mut self.fate, &[1, 4, 20, 100]);
        let kinds = [io::ErrorKind::Other, io::ErrorKind::StorageFull];
        let strike = Strike {
            touch,
            spared: self.fate.below(spared),
            kind: one_of(&mut self.fate, &kinds),
            lasts: self.fate.below(2) == 0,
        };
        self.site.fuse.strike(strike);
    }

    /// Whether the life is over, and how; a member that has halted closes its files first.
    pub(super) fn over(&mut self) -> Result<Option<Life>, Violation> {
        if self.site.fuse.blown() {
            return Ok(Some(Life::Crashed));
        }
        if self.halted.is_none() {
            return Ok(None);
        }
        self.close();
        // What was answered before the end may still arrive.
        let arrive = self.fate.below(self.answers.len() as u64 + 1);
        for (token, result) in self.answers.drain(..usize::try_from(arrive).unwrap_or(0)) {
            self.judge.answered(token, result, self.site.hand.now())?;
        }
        Ok(Some(if self.site.fuse.blown() {
            Life::Crashed
        } else {
            Life::Halted
        }))
    }

    /// Stops the member in good order.
    pub(super) fn stop(&mut self) -> Result<Life, Violation> {
        self.last_token += 1;
        let token = Token(self.last_token);
        self.inbox.push_back(Input::Request {
            token,
            request: Request::Stop,
            deadline: Instant::MAX,
        });
        loop {
            self.step()?;
            if let Some(life) = self.over()? {
                self.tally.note("orderly stop");
                return Ok(life);
            }
        }
    }

    /// The lanes finish what they were given and close, as they do when the node's thread has ended.
    fn close(&mut self) {
        self.doing = "close";
        let Some(process) = &mut self.process else { return };
        let before = process.reports.len();
        if self.fate.below(2) == 0 {
            process.log.close();
            process.rows.close();
        } else {
            process.rows.close();
            process.log.close();
        }
        if let Some(batch) = process.reports.persisted_since(before) {
            self.judge.durable(batch);
        }
    }

    /// After a life: the process is gone, with or without the power.
    pub(super) fn end(&mut self, life: &Life) {
        let now = self.site.hand.now();
        let struck = self.site.fuse.struck();
        match life {
            Life::Crashed => self.tally.note(format!("crash: {}", self.doing)),
            Life::Refused => self.tally.note("refused"),
            Life::Halted | Life::Runs | Life::Unreadable => {}
        }
        if let Some(touch) = struck {
            self.tally.note(format!("struck: {touch:?}"));
        }
        // To stop in the middle of things is a crash, too.
        if matches!(life, Life::Crashed | Life::Runs) {
            self.tally.crashes += 1;
        }
        let loses_power = self.fate.below(100) >= self.swarm.kills_percent;
        if loses_power {
            self.site.disk.lose_power();
            self.site.table.lose_power();
            self.tally.note("power lost");
        } else {
            self.site.disk.end_process();
            self.tally.note("process ended");
        }
        self.trace
            .add(now, format_args!("{life:?} {} {struck:?} {loses_power}", self.doing));
        self.process = None;
        self.inbox.clear();
        self.answers.clear();
        self.unanswered.clear();
        self.serving = false;
        self.halted = None;
        self.judge.ended(now);
        self.site.fuse.renew();
        self.site
            .hand
            .advance(std::time::Duration::from_millis(self.fate.below(5_000)));
    }

    /// The names in the member's directories.
    pub(super) fn files(&self) -> String {
        let dirs = self.site.dirs();
        let names = [&dirs.wal, &dirs.snap()].map(|dir| self.site.disk.peek(dir).join(" "));
        format!("[{}] [{}]", names[0], names[1])
    }

    /// Notes what a start found on the disk.
    pub(super) fn note_findings(&mut self) {
        let names = self.site.disk.peek(&self.site.dirs().wal);
        if names.iter().any(|name| name.ends_with(".broken")) {
            self.tally.note("found: torn tail");
        }
        let segments: Vec<_> = names.iter().filter_map(|name| SegmentName::parse(name)).collect();
        if segments.len() > 1 {
            self.tally.note("found: several segments");
        }
        if segments.iter().all(|segment| segment.sequence > 0) {
            self.tally.note("found: first segment released");
        }
    }
}
