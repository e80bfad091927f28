# shellcheck shell=bash
# Which Ruby the app asks for, and its installation. Debian has one version, the Debian before another; an app that asks for a
# third gets the nearer one and a warning.

# Unpacks Debian's Ruby into a layer, and adapts it to that place: it is built for /usr.
install_ruby() {
  bp apt "$layers" ruby --run "${older[@]}" "${packages[@]}" ruby-bundler >"$log" || fail "Ruby cannot be installed: the line above says why; push again"
  local prefix=$ruby/usr api arch file
  # Tools for developers, and their data.
  rm -rf "$prefix"/lib/ruby/gems/*/gems/{rbs,typeprof,debug}-* "$prefix"/lib/ruby/gems/*/specifications/{rbs,typeprof,debug}-* \
    "$prefix"/share/{systemtap,bash-completion,ri} "$prefix"/bin/{rbs,typeprof,rdbg}* "$prefix"/lib/*/ruby/gems
  find "$prefix/bin" "$prefix/share/rubygems-integration" -type f -path '*/bin/*' \
    -exec sed -i '1s,^#! */usr/bin/ruby[0-9.]*,#!/usr/bin/env ruby,' {} +
  cp "$here/lib/bundle" "$prefix/bin/bundle"
  # With this variable Bundler accepts another Ruby than the Gemfile asks for, without a change of the Gemfile or the lock file.
  find "$prefix" -path '*/bundler/ruby_version.rb' -type f | while IFS= read -r file; do
    echo 'Bundler::RubyVersion.prepend(Module.new { def diff(other) = ENV["PAAS_ANY_RUBY"] ? nil : super })' >>"$file"
  done
  api=$(basename "$(echo "$prefix"/lib/ruby/[0-9]*)")
  arch=$(basename "$(dirname "$(echo "$prefix"/lib/*/ruby)")")
  bp env "$layers" ruby --prepend "PATH=$prefix/bin"
  bp env "$layers" ruby --prepend "LD_LIBRARY_PATH=$prefix/lib/$arch"
  # RubyGems puts the paths of gems before the first of these, so that they replace the older versions in the standard library.
  bp env "$layers" ruby "RUBYLIB=/usr/local/lib/site_ruby/$api:$prefix/lib/ruby/vendor_ruby/$api:$prefix/lib/$arch/ruby/vendor_ruby/$api:$prefix/lib/ruby/vendor_ruby:$prefix/lib/ruby/$api:$prefix/lib/$arch/ruby/$api"
  bp env "$layers" ruby --default "GEM_PATH=$prefix/lib/ruby/gems/$api:$prefix/share/rubygems-integration/all"
}

# Adds headers and the library's link to Ruby's layer while gems are compiled.
add_headers() {
  local dev=$work/headers library
  bp apt "$work" headers --build "${older[@]}" "${packages[@]}" "${packages[0]/ruby/ruby-dev}" >"$log" ||
    fail "Ruby's headers cannot be installed: the line above says why; push again"
  ln -s "$dev/usr/include" "$ruby/usr/include"
  for library in "$dev"/usr/lib/*/libruby*.so; do
    library_link=$ruby${library#"$dev"}
    [ -e "$library_link" ] || cp -P "$library" "$library_link"
  done
}

remove_headers() {
  rm -f "$ruby/usr/include" "${library_link:-}"
}

# Prints the requirements of the line `ruby` in the Gemfile, with commas between; nothing if there is none.
ruby_of_gemfile() {
  local line
  line=$(sed -nE "s/^[[:space:]]*ruby[( ]+(['\"][^#]*).*/\1/p" "$gemfile" | head -n 1)
  # Of options, such as engine, only what comes before them.
  grep -oE "^(['\"][^'\"]+['\"][[:space:],]*)+" <<<"${line%%[[:space:]]engine*}" | grep -oE "['\"][^'\"]+['\"]" | tr -d "'\"" | paste -sd , | sed 's/,/, /g'
}

# Prints the version that the app asks for and the file that names it, with a tab between. Fails if a file cannot be read.
asked_ruby() {
  local line file=.ruby-version
  if [ -f "$gemfile" ] && line=$(ruby_of_gemfile) && [ -n "$line" ]; then
    if grep -qE "^[[:space:]]*ruby\b.*(:engine|engine:)" "$gemfile"; then
      line=$(sed -nE "s/^[[:space:]]*ruby\b.*engine(:| *=>) *['\":]+([a-z]+).*/\2/p" "$gemfile" | head -n 1)-$line
    fi
    printf '%s\t%s\n' "$line" "$gemfile"
    return
  fi
  if [ -f "$gemfile" ] && line=$(sed -nE "s/^[[:space:]]*ruby[( ]+file: *['\"]([^'\"]+)['\"].*/\1/p" "$gemfile" | head -n 1) && [ -n "$line" ]; then file=$line; fi
  if [ "$file" = .tool-versions ]; then file=""; fi
  line=$(bp named-version ${file:+"$file"} --tool ruby) || [ $? = 1 ] || return 1
  if [ -n "$line" ]; then
    echo "$line"
  elif [ -f "$lock" ] && line=$(sed -nE '/^RUBY VERSION/,/^$/ s/^ +ruby ([0-9.]+).*/\1/p' "$lock") && [ -n "$line" ]; then
    printf '%s\t%s\n' "$line" "$lock"
  fi
}

# $1: a requirement as RubyGems writes it, $2: versions. Whether one of them satisfies it.
satisfies() {
  # After ~>, the last of three numbers may be higher, or the second of two.
  local range
  if [[ $1 =~ ^=?\ *([0-9.]+)$ ]]; then
    [ "${BASH_REMATCH[1]}" = "$2" ]
    return
  fi
  range=$(sed -E 's/~> *([0-9]+\.[0-9]+\.[0-9]+)/~\1/g; s/~> *([0-9]+(\.[0-9]+)?)/^\1/g; s/, */ /g; s/(^| )= */\1/g; s/!= *[0-9.]+//g' <<<"$1")
  [ -z "${range// /}" ] || bp semver-max "$range" <<<"$2" >/dev/null 2>&1
}

# $1: a series of Ruby. Whether a version of it is what the app asks for.
fits() {
  if [[ $asked =~ ^=?\ *([0-9.]+) ]]; then
    [[ ${BASH_REMATCH[1]}. == "$1".* || $1. == "${BASH_REMATCH[1]}".* ]]
  else
    satisfies "$asked" "$(seq -f "$1.%.0f" 0 99)"
  fi
}

# Sets asked and asked_in (the version asked for, and the file), plain (its number), series, packages, older (options of bp apt)
# and debian. Ends the build if no Ruby of this stack can run the app.
read_asked() {
  local line
  asked='' asked_in='' series=3.3 older=() packages=(ruby) debian=$CNB_TARGET_DISTRO_VERSION
  line=$(asked_ruby) || exit 1
  IFS=$'\t' read -r asked asked_in <<<"$line"
  asked=${asked#ruby-}
  if [[ ! $asked =~ [0-9] && -n $asked && ! $asked =~ ^(jruby|truffleruby|rbx|mruby) ]]; then
    bp trouble "\"$asked\" is not a version of Ruby ($asked_in), and the default is used: write a number such as $series there"
    asked=''
  fi
  plain=$(sed -E 's/^[^0-9]*//; s/[^0-9.].*//' <<<"$asked")
  if [[ $asked =~ ^(jruby|truffleruby|rbx|mruby) ]]; then
    fail "$asked_in asks for $asked: this stack has only the standard Ruby $series; write ruby \"~> $series\", if the app runs on that"
  elif [ -n "$plain" ] && ! fits 3.3 && { fits 3.1 || fits 3.0; }; then
    series=3.1 older=(--suite=bookworm) packages=(ruby=bookworm libruby=bookworm ruby-sdbm=bookworm) debian=12
  elif [[ $plain =~ ^[12](\.|$) ]] && ! satisfies "$asked" "$series.0"; then
    fail "$asked_in asks for Ruby $asked: this stack has Ruby 3.1 and 3.3, which are not compatible with it; port the app to one of them, and write that into $asked_in"
  fi
}

# Reports which Ruby is used, and why.
check_version() {
  if [ -z "$plain" ]; then
    bp step "Using Ruby $version (the default)"
  elif satisfies "$asked" "$version" || { [ "$asked_in" != "$gemfile" ] && [[ $version. == "$plain".* ]]; }; then
    bp step "Using Ruby $version ($asked_in: $asked)"
  elif [[ $plain. == "${version%.*}".* ]]; then
    bp step "Using Ruby $version ($asked_in: $asked, which differs only in its patch version)"
    accept_any_ruby
  else
    bp trouble "$asked_in asks for Ruby $asked, but only 3.1 and 3.3 are available: the app is built with $version;" \
      "test it with ${version%.*}, and write that into $asked_in"
    bp step "Using Ruby $version (the nearest available)"
    accept_any_ruby
  fi
}

# Makes Bundler accept this Ruby, during the build and when the app starts.
accept_any_ruby() {
  any_ruby=yes
}
