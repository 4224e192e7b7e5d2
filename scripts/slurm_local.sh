#!/usr/bin/env bash
# A Slurm of one machine, for tests: no systemd, no cgroups, no containers. It needs root.
#
#   scripts/slurm_local.sh install   the packages, where apt-get may
#   scripts/slurm_local.sh up        start munge, MariaDB, slurmdbd, slurmctld and slurmd; prints the settings to export
#   scripts/slurm_local.sh down      end them, and remove their state
#
# Everything lies in SLURM_LOCAL (${TMPDIR:-/tmp}/unitgain-slurm); ports are four that are free, so that one left behind
# by a run that was killed is in nobody's way.
# Two partitions: debug, whose tasks may be preempted, and urgent, which does that. Four CPUs and four GPUs are claimed to be
# there, whatever the machine has; the GPUs are names alone.
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin
STATE=${SLURM_LOCAL:-${TMPDIR:-/tmp}/unitgain-slurm}
NODE=$(hostname -s)
PACKAGES="slurm-wlm slurm-client munge slurmdbd slurm-wlm-mysql-plugin mariadb-server"
export SLURM_CONF=$STATE/slurm.conf

fail() {
  echo "slurm_local.sh: $1" >&2
  exit 1
}

# Try a command until it succeeds, for 60 s.
until_it_works() {
  for _ in $(seq 300); do
    "$@" >/dev/null 2>&1 && return 0
    sleep 0.2
  done
  tail -n 20 "$STATE"/log/*.log >&2 || true
  fail "waited 60 s for: $*"
}

# Start a process that outlives this script.
background() {
  setsid nohup "$@" </dev/null >>"$STATE/log/started.log" 2>&1 &
}

# End processes by the names of their files: what they keep is removed, so none gets more than 5 s.
end() {
  local pids=() file
  for file in "${@/%/.pid}"; do
    [ -s "$STATE/$file" ] && pids+=("$(cat "$STATE/$file")")
  done
  for _ in $(seq 50); do
    kill "${pids[@]}" 2>/dev/null || return 0
    sleep 0.1
  done
  kill -9 "${pids[@]}" 2>/dev/null || true
}

install() {
  command -v slurmctld >/dev/null && command -v slurmdbd >/dev/null && command -v mariadbd >/dev/null && return 0
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || fail "Slurm isn't installed, and apt-get can't be used here"
  apt-get update -qq
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $PACKAGES >/dev/null
}

start_munge() {
  dd if=/dev/urandom of="$STATE/munge.key" bs=1024 count=1 status=none
  chmod 400 "$STATE/munge.key"
  munged --force --key-file="$STATE/munge.key" --socket="$STATE/munge.sock" --pid-file="$STATE/munged.pid" \
    --log-file="$STATE/log/munged.log" --seed-file="$STATE/munge.seed"
}

sql() {
  mariadb --user=root --socket="$STATE/sql/sock" --execute="$1"
}

start_database() {
  mkdir -p "$STATE/sql"
  ln -s sql/pid "$STATE/mariadbd.pid"
  chown mysql "$STATE/sql"
  mariadb-install-db --no-defaults --datadir="$STATE/sql" --user=mysql --auth-root-authentication-method=normal \
    --skip-test-db >"$STATE/log/sql.log" 2>&1
  background mariadbd --no-defaults --datadir="$STATE/sql" --user=mysql --socket="$STATE/sql/sock" \
    --bind-address=127.0.0.1 --port="$SQL_PORT" --pid-file="$STATE/sql/pid" --innodb-buffer-pool-size=64M \
    --innodb-flush-log-at-trx-commit=0
  until_it_works sql 'select 1'
  sql "create database slurm; create user slurm@'127.0.0.1' identified by 'slurm';
    create user slurm@localhost identified by 'slurm'; grant all on slurm.* to slurm@'127.0.0.1', slurm@localhost"
}

# Four ports that nothing listens on, all bound at once so that they differ.
free_ports() {
  python3 -c 'import socket
bound = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
print(*(each.getsockname()[1] for each in bound))'
}

write_settings() {
  cat >"$STATE/slurmdbd.conf" <<END
AuthType=auth/munge
AuthInfo=socket=$STATE/munge.sock
DbdHost=localhost
DbdPort=$DBD_PORT
SlurmUser=root
PidFile=$STATE/slurmdbd.pid
LogFile=$STATE/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$SQL_PORT
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
END
  chmod 600 "$STATE/slurmdbd.conf"
  for gpu in 0 1 2 3; do ln -s /dev/null "$STATE/gpu$gpu"; done
  echo "Name=gpu File=$STATE/gpu[0-3]" >"$STATE/gres.conf"
  # cred_expire: a task that was ended begins again in 10 s rather than in 2 minutes.
  # AccountingStoragePass: for slurmdbd the socket of munge comes from here.
  # DefMemPerCPU: without it each task takes all memory. config_overrides: more CPUs than there are.
  cat >"$SLURM_CONF" <<END
ClusterName=local
SlurmctldHost=$NODE(127.0.0.1)
SlurmctldPort=$CTLD_PORT
SlurmdPort=$D_PORT
AuthType=auth/munge
AuthInfo=socket=$STATE/munge.sock,cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$STATE/state
SlurmdSpoolDir=$STATE/spool
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmdPidFile=$STATE/slurmd.pid
SlurmctldLogFile=$STATE/log/slurmctld.log
SlurmdLogFile=$STATE/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=2,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=1000
GresTypes=gpu
ReturnToService=2
KillWait=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
MailProg=/bin/true
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort=$DBD_PORT
AccountingStoragePass=$STATE/munge.sock
NodeName=$NODE NodeAddr=127.0.0.1 CPUs=4 RealMemory=16000 Gres=gpu:4 State=UNKNOWN
PartitionName=debug Nodes=$NODE Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=0
PartitionName=urgent Nodes=$NODE Default=NO MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
END
}

is_idle() {
  [ "$(sinfo --noheader --format=%t | head -n 1)" = idle ]
}

up() {
  [ "$(id -u)" = 0 ] || fail "it must be started by root"
  down
  mkdir -p "$STATE"/{spool,state,log}
  chmod 755 "$STATE"
  getent hosts "$NODE" >/dev/null || echo "127.0.0.1 $NODE" >>/etc/hosts
  read -r CTLD_PORT D_PORT DBD_PORT SQL_PORT < <(free_ports)
  start_munge
  start_database
  write_settings
  background slurmdbd
  until_it_works sacctmgr --noheader list cluster
  sacctmgr --immediate add cluster local >/dev/null
  sacctmgr --immediate add account root Cluster=local >/dev/null 2>&1 || true
  background slurmctld -i
  background slurmd
  until_it_works is_idle
  echo "export SLURM_CONF=$SLURM_CONF"
}

down() {
  end slurmd slurmctld slurmdbd mariadbd munged
  rm -rf "$STATE"
}

case "${1:-}" in
  install | up | down) "$1" ;;
  *) fail "must be given install, up or down" ;;
esac
