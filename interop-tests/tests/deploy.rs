//! What operators use: the installer that a relay serves, units, the chart, and templates for CI systems, each with the
//! programs that they are for.

mod deploy {
    mod files;
    mod install;
}
