# shellcheck shell=bash
# The options of heroku-php-apache2 and heroku-php-nginx in the Procfile, which serve-php (of several names) understands or which
# are reported here.

# $1: an option, $2: a file. Ends the build if the file is missing. What Composer installs is not there yet, and the shell of the
# instance expands variables.
require_file() {
  if [[ $2 == *\$* || $2 == vendor/* ]] || [ -f "$2" ]; then return; fi
  fail "the Procfile names the file $2 (option -$1), which does not exist: correct it, or commit the file"
}

# Reports the options that have no effect. Ends the build if a file or the folder to serve is missing. Reads procfile_web.
check_server_options() {
  local rest=${procfile_web##*heroku-php-} server words option OPTIND=1 OPTARG
  server=${rest%%[^a-z0-9]*}
  rest=${rest#"$server"}
  read -ra words <<<"$(tr -d '\042\047' <<<"${rest%%[;&|]*}")"
  set -- "${words[@]}"
  while getopts ':-:C:c:F:f:i:l:p:tvh' option; do
    case $option in
      C)
        require_file C "$OPTARG"
        if [ "$server" = apache2 ]; then
          bp trouble "nginx serves this app, so the settings of Apache in $OPTARG are not used: write those that you need for nginx into a file, and name it with heroku-php-nginx -C FILE"
        fi
        ;;
      F | i) require_file "$option" "$OPTARG" ;;
      c) bp trouble "$OPTARG is not used as the whole configuration of the web server (option -c): put what goes into nginx's server block into a file, and name it with heroku-php-nginx -C FILE" ;;
      f) bp trouble "$OPTARG is not used as the whole configuration of PHP-FPM (option -f): put what differs from the default pool into a file, and name it with -F FILE" ;;
      p)
        # shellcheck disable=SC2016 # The Procfile has the name of the variable.
        if [[ $OPTARG != '$PORT' && $OPTARG != '${PORT}' ]]; then bp trouble "the app listens on \$PORT, to which the router sends requests, and not on $OPTARG: remove -p from the Procfile"; fi
        ;;
      t) bp trouble "the option -t in the Procfile, which only tests the configuration, is ignored: remove it" ;;
      l | v) ;;
      -) case $OPTARG in verbose) ;; *) bp trouble "the option --$OPTARG in the Procfile is ignored: remove it" ;; esac ;;
      :) fail "the option -$OPTARG in the Procfile lacks its value: heroku-php-$server -$OPTARG FILE" ;;
      *) fail "heroku-php-$server has no option -${OPTARG:-$option}: correct the Procfile" ;;
    esac
  done
  shift $((OPTIND - 1))
  if [ $# -gt 1 ]; then
    fail "the Procfile gives heroku-php-$server more than one folder ($*): put options before the folder to serve"
  elif [ $# = 1 ] && [[ $1 != *\$* ]] && [ ! -d "$1" ]; then
    fail "the Procfile serves the folder $1, which does not exist: correct it"
  fi
}
