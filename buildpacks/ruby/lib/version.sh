# shellcheck shell=bash
# Which Ruby: Debian has one, and the Debian before another. Whatever asks for a third is told what it gets.

# Unpacks Debian's Ruby into a layer, and makes it at home there: it was made to be in /usr.
install_ruby() {
  bp apt "$layers" ruby --run "${older[@]}" "${packages[@]}" ruby-bundler >"$log" || fail "Ruby cannot be installed: the line above says why; push again"
  local prefix=$ruby/usr api arch file
  # Tools for developers, and data of theirs.
  rm -rf "$prefix"/lib/ruby/gems/*/gems/{rbs,typeprof,debug}-* "$prefix"/lib/ruby/gems/*/specifications/{rbs,typeprof,debug}-* \
    "$prefix"/share/{systemtap,bash-completion,ri} "$prefix"/bin/{rbs,typeprof,rdbg}* "$prefix"/lib/*/ruby/gems
  find "$prefix/bin" "$prefix/share/rubygems-integration" -type f -path '*/bin/*' \
    -exec sed -i '1s,^#! */usr/bin/ruby[0-9.]*,#!/usr/bin/env ruby,' {} +
  cp "$here/lib/bundle" "$prefix/bin/bundle"
  # Bundler goes on with another Ruby than the Gemfile asks for where this says so: neither that file nor the lock changes.
  find "$prefix" -path '*/bundler/ruby_version.rb' -type f | while IFS= read -r file; do
    echo 'Bundler::RubyVersion.prepend(Module.new { def diff(other) = ENV["PAAS_ANY_RUBY"] ? nil : super })' >>"$file"
  done
  api=$(basename "$(echo "$prefix"/lib/ruby/[0-9]*)")
  arch=$(basename "$(dirname "$(echo "$prefix"/lib/*/ruby)")")
  bp env "$layers" ruby --prepend "PATH=$prefix/bin"
  bp env "$layers" ruby --prepend "LD_LIBRARY_PATH=$prefix/lib/$arch"
  # The first of these is where RubyGems puts what gems bring: before the standard library, whose newer versions they are.
  bp env "$layers" ruby "RUBYLIB=/usr/local/lib/site_ruby/$api:$prefix/lib/ruby/vendor_ruby/$api:$prefix/lib/$arch/ruby/vendor_ruby/$api:$prefix/lib/ruby/vendor_ruby:$prefix/lib/ruby/$api:$prefix/lib/$arch/ruby/$api"
  bp env "$layers" ruby --default "GEM_PATH=$prefix/lib/ruby/gems/$api:$prefix/share/rubygems-integration/all"
}

# Headers and the library's link are lent to Ruby's layer while gems are compiled.
lend_headers() {
  local dev=$work/headers library
  bp apt "$work" headers --build "${older[@]}" "${packages[@]}" "${packages[0]/ruby/ruby-dev}" >"$log" ||
    fail "Ruby's headers cannot be installed: the line above says why; push again"
  ln -s "$dev/usr/include" "$ruby/usr/include"
  for library in "$dev"/usr/lib/*/libruby*.so; do
    lent=$ruby${library#"$dev"}
    [ -e "$lent" ] || cp -P "$library" "$lent"
  done
}

take_headers_back() {
  rm -f "$ruby/usr/include" "${lent:-}"
}

# Prints what is asked for, and where that is said.
asked_ruby() {
  local line
  if [ -f "$gemfile" ] && line=$(sed -nE "s/^[[:space:]]*ruby[( ]+['\"]([^'\"]+)['\"].*/\1/p" "$gemfile" | head -n 1) && [ -n "$line" ]; then
    if grep -qE "^[[:space:]]*ruby\b.*(:engine|engine:)" "$gemfile"; then
      line=$(sed -nE "s/^[[:space:]]*ruby\b.*engine(:| *=>) *['\":]+([a-z]+).*/\2/p" "$gemfile" | head -n 1)-$line
    fi
    printf '%s\t%s\n' "$line" "$gemfile"
  elif [ -f .ruby-version ] && line=$(sed -E 's/#.*//; s/[[:space:]]//g; /^$/d' .ruby-version | head -n 1) && [ -n "$line" ]; then
    printf '%s\t%s\n' "$line" .ruby-version
  elif [ -f .tool-versions ] && line=$(awk '$1 == "ruby" { print $2; exit }' .tool-versions) && [ -n "$line" ]; then
    printf '%s\t%s\n' "$line" .tool-versions
  elif [ -f "$lock" ] && line=$(sed -nE '/^RUBY VERSION/,/^$/ s/^ +ruby ([0-9.]+).*/\1/p' "$lock") && [ -n "$line" ]; then
    printf '%s\t%s\n' "$line" "$lock"
  fi
}

# $1: a requirement of RubyGems, $2: a version. Whether they go together.
satisfies() {
  # Three numbers after ~> leave the last one open, two the second.
  local range
  if [[ $1 =~ ^=?\ *([0-9.]+)$ ]]; then
    [ "${BASH_REMATCH[1]}" = "$2" ]
    return
  fi
  range=$(sed -E 's/~> *([0-9]+\.[0-9]+\.[0-9]+)/~\1/g; s/~> *([0-9]+(\.[0-9]+)?)/^\1/g; s/, */ /g; s/(^| )= */\1/g; s/!= *[0-9.]+//g' <<<"$1")
  [ -z "${range// /}" ] || bp semver-max "$range" <<<"$2" >/dev/null 2>&1
}

# $1: a series of Ruby. Whether one of it is what is asked for.
fits() {
  if [[ $asked =~ ^=?\ *([0-9.]+) ]]; then
    [[ ${BASH_REMATCH[1]}. == "$1".* || $1. == "${BASH_REMATCH[1]}".* ]]
  else
    satisfies "$asked" "$(seq -f "$1.%.0f" 0 99)"
  fi
}

# Sets asked, asked_in and plain (its number), series and packages; fails if the app cannot be for any Ruby of this stack.
read_asked() {
  asked='' asked_in='' series=3.3 older=() packages=(ruby) debian=$CNB_TARGET_DISTRO_VERSION
  IFS=$'\t' read -r asked asked_in < <(asked_ruby) || true
  asked=${asked#ruby-}
  plain=$(sed -E 's/^[^0-9]*//; s/[^0-9.].*//' <<<"$asked")
  if [[ $asked =~ ^(jruby|truffleruby|rbx|mruby) ]]; then
    fail "$asked_in asks for $asked: this stack has only Ruby $series itself; write ruby \"~> $series\", if the app runs on that"
  elif [ -n "$plain" ] && ! fits 3.3 && { fits 3.1 || fits 3.0; }; then
    series=3.1 older=(--suite=bookworm) packages=(ruby=bookworm libruby=bookworm ruby-sdbm=bookworm) debian=12
  elif [[ $plain =~ ^[12](\.|$) ]] && ! satisfies "$asked" "$series.0"; then
    fail "$asked_in asks for Ruby $asked: this stack has Ruby 3.1 and 3.3, which break with what worked there; port the app to one, and write that into $asked_in"
  fi
}

# Says which Ruby it is and why.
check_version() {
  if [ -z "$plain" ]; then
    bp step "Using Ruby $version (nothing asks for another)"
  elif satisfies "$asked" "$version" || { [ "$asked_in" != "$gemfile" ] && [[ $version. == "$plain".* ]]; }; then
    bp step "Using Ruby $version ($asked_in: $asked)"
  elif [[ $plain == "${version%.*}".* ]]; then
    bp step "Using Ruby $version ($asked_in: $asked, which is the same but for patches)"
    lift_version
  else
    bp trouble "$asked_in asks for Ruby $asked, and there are only 3.1 and 3.3 here: the app is built with $version;" \
      "try it with ${version%.*}, and write that into $asked_in"
    bp step "Using Ruby $version (the nearest that there is)"
    lift_version
  fi
}

# Bundler would refuse to work, now and when the app starts.
lift_version() {
  lifted=yes
}
