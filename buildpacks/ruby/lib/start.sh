# shellcheck shell=bash
# The processes of an app without a Procfile: shell commands, and why they were chosen.

# Prints the command that starts the web server in the lock file, or nothing.
rack_server() {
  # shellcheck disable=SC2016 # The shell of the instance expands $PORT.
  if locked puma; then
    echo 'bundle exec puma -b tcp://0.0.0.0:$PORT'
  elif locked falcon; then
    echo 'bundle exec falcon serve --bind http://0.0.0.0:$PORT'
  elif locked unicorn; then
    if [ -f config/unicorn.rb ]; then
      echo 'bundle exec unicorn -p $PORT -c config/unicorn.rb'
    else
      echo 'bundle exec unicorn -p $PORT'
    fi
  elif locked iodine; then
    echo 'bundle exec iodine -b 0.0.0.0 -p $PORT'
  elif locked thin; then
    echo 'bundle exec thin start -R config.ru -a 0.0.0.0 -p $PORT'
  elif locked rackup || grep -qE '^    rack \([012]\.' "$lock"; then
    if locked webrick || locked reel || locked agoo; then echo 'bundle exec rackup --host 0.0.0.0 --port $PORT'; fi
  fi
}

# Sets command and why; ends the build if there is nothing to start.
choose_start() {
  local file
  command='' why=''
  if [ -f Procfile ] && grep -qE '^web *:' Procfile; then return; fi
  if [ -f "$gemfile" ] && locked railties && [ -f config/application.rb ]; then
    # shellcheck disable=SC2016 # The shell of the instance expands $PORT.
    command='bin/rails server -b 0.0.0.0 -p $PORT' why="a Rails app"
    if [ ! -x bin/rails ]; then command="bundle exec ${command#bin/}"; fi
  elif [ -f config.ru ]; then
    if [ ! -f "$gemfile" ]; then
      fail "there is a config.ru, but no Gemfile: run bundle init, bundle add rack rackup puma, and commit Gemfile and Gemfile.lock"
    fi
    command=$(rack_server) why=config.ru
    if [ -z "$command" ]; then
      fail "config.ru needs a web server, and none is in $lock: run bundle add puma, and commit $gemfile and $lock"
    fi
  else
    for file in app.rb main.rb server.rb web.rb; do
      if [ -f "$file" ]; then
        command="ruby $file" why="there is a $file"
        if [ -f "$gemfile" ]; then command="bundle exec $command"; fi
        break
      fi
    done
  fi
  if [ -z "$command" ] && [ ! -f Procfile ]; then
    fail "there is no start command: add a config.ru or an app.rb, or a Procfile with a line web: COMMAND"
  fi
}

declare_processes() {
  if [ -n "$command" ]; then
    bp process "$layers" web --default --shell -- "exec $command"
    bp detail "web runs: $command ($why)"
  fi
  if [ -f Procfile ] || [ ! -f "$gemfile" ]; then return; fi
  if locked sidekiq; then
    bp process "$layers" worker --shell -- "exec bundle exec sidekiq"
    bp detail "worker runs: bundle exec sidekiq"
  elif locked solid_queue && [ -x bin/jobs ]; then
    bp process "$layers" worker --shell -- "exec bin/jobs"
    bp detail "worker runs: bin/jobs"
  fi
}
