# shellcheck shell=bash
# The program that the build made, and the command that starts it.

# $1: a text. Whether a build file contains it.
uses() {
  grep -qsF "$1" "${build_files[@]}"
}

# $1: a file that the build made. Prints the folder of its module.
module_of() {
  local dir
  dir=$(dirname "$1")
  while [[ $dir == */target* || $dir == */build/* || $dir == */build || $dir == target* || $dir == build* ]]; do dir=$(dirname "$dir"); done
  echo "$dir"
}

# Prints the files that can be started, as `RANK MODULE KIND PATH MAIN` with tabs between; a lower rank is more likely meant.
candidates() {
  local path module kind main classes
  while IFS= read -r path; do
    path=${path#./} module=$(module_of "$path")
    case $path in
      *quarkus-app/quarkus-run.jar) printf '1\t%s\tfat\t%s\t\n' "$module" "$path" ;;
      */bin/*.bat | */lib/*) ;;
      */bin/*) printf '2\t%s\tscript\t%s\t\n' "$module" "$path" ;;
      *)
        mapfile -t classes < <(find "$module"/{target/classes,target/scala-*/classes,build/classes/*/main} -maxdepth 0 -type d 2>/dev/null)
        IFS=$'\t' read -r kind main < <(python3 -I "$here/lib/jars.py" kind "$path" "${classes[@]}")
        case $kind in
          boot | fat) printf '3\t%s\t%s\t%s\t%s\n' "$module" "$kind" "$path" "$main" ;;
          war) printf '4\t%s\twar\t%s\t\n' "$module" "$path" ;;
          thin) printf '5\t%s\tthin\t%s\t%s\n' "$module" "$path" "$main" ;;
          library)
            main=$(main_class "$module" "${classes[@]}")
            if [ -n "$main" ]; then printf '6\t%s\tthin\t%s\t%s\n' "$module" "$path" "$main"; fi
            ;;
        esac
        ;;
    esac
  done < <(find . \( -name node_modules -o -name src -o -name test-classes \) -prune -o -type f \( -path '*/target/quarkus-app/quarkus-run.jar' -o \
    -path '*/build/quarkus-app/quarkus-run.jar' -o -path '*/target/universal/stage/bin/*' -o -path '*/target/appassembler/bin/*' -o \
    -path '*/build/install/*/bin/*' -o -path '*/target/scala-*/*.jar' -o -regex '.*/\(target\|build/libs\)/[^/]*\.[jw]ar' \) -print | sort)
}

# $1: a module, others: folders with its classes. Prints its main class, if pom.xml names one or there is only one.
main_class() {
  local module=$1 found
  shift
  found=$(sed -n 's/^main\t//p' "$work/pom" 2>/dev/null || true)
  if [ -n "$found" ] && [ -n "$(for dir in "$@"; do compgen -G "$dir/${found//.//}.class"; done)" ]; then
    echo "$found"
    return
  fi
  mapfile -t found < <(python3 -I "$here/lib/jars.py" mains "$@" | sort -u)
  if [ ${#found[@]} = 0 ]; then return; fi
  mapfile -t found < <(javap -cp "$(IFS=: && echo "$*")" "${found[@]}" 2>/dev/null |
    awk '/ (class|interface) / { name = $0; sub(/ (extends|implements) .*/, "", name); sub(/ *\{.*/, "", name); sub(/.* /, "", name) }
      /public static (final )?void main\(java.lang.String\[\]\)/ { print name }' | sort -u)
  if [ ${#found[@]} = 1 ]; then
    echo "${found[0]}"
  elif [ ${#found[@]} -gt 1 ]; then
    printf '%s\n' "${found[@]}" | grep -xE '(.*\.)?(Main|MainKt|App|AppKt|Application|ApplicationKt|Server|ServerKt|[A-Z][a-zA-Z]*Application)' | head -n 1
  fi
}

# Prints the main class of the jar whose files are in the app's folder; fails if there is none.
unpacked_main() {
  if [ ! -f META-INF/MANIFEST.MF ]; then return 1; fi
  # Long lines go on in the next one, after a space.
  tr -d '\r' <META-INF/MANIFEST.MF | sed -z 's/\n //g' | sed -nE 's/^Main-Class: *([^ ]+) *$/\1/p' | grep -m 1 .
}

# Sets kind, module, program and main. Fails if nothing can be started; ends the build if it is not clear which program to start.
choose_program() {
  local all names wanted line
  candidates | sort -s -k 1,1n >"$work/candidates"
  # Of each module, only the most likely one.
  all=$(awk -F '\t' '!seen[$2]++' "$work/candidates")
  # A library with a main class counts only if no module has a program.
  if grep -q '^[1-5]' <<<"$all"; then all=$(grep '^[1-5]' <<<"$all"); fi
  if [ -z "$all" ]; then return 1; fi
  if [ "$(wc -l <<<"$all")" != 1 ]; then
    line=""
    for wanted in web server app application backend api boot service rest main; do
      line=$(awk -F '\t' -v wanted="$wanted" '{ name = $2; sub(/.*\//, "", name); if (name == wanted || name ~ "-" wanted "$") print }' <<<"$all" | head -n 1)
      if [ -n "$line" ]; then break; fi
    done
    if [ -z "$line" ]; then
      names=$(cut -f 4 <<<"$all" | paste -sd ' ')
      fail "there are several programs ($names): name the web process in a Procfile, such as web: java -jar ${names%% *}"
    fi
    all=$line
  fi
  IFS=$'\t' read -r _ module kind program main <<<"$all"
}

# Arranges the program and its libraries for the image. Sets command; adds to slices.
arrange_program() {
  local folder runner
  folder=$(dirname "$program")/libraries
  case $kind in
    boot)
      python3 -I "$here/lib/jars.py" unpack "$program" "$folder"
      libraries_in "$folder"
      ;;
    thin)
      bp step "Putting the libraries beside $program"
      mkdir -p "$folder"
      "${tool}_libraries" "$module" "$PWD/$folder"
      libraries_in "$folder"
      python3 -I "$here/lib/jars.py" starter "$program" "$main" "$folder"
      ;;
    fat)
      folder=$(dirname "$program")/lib
      libraries_in "$folder" "$(dirname "$program")/app" "$(dirname "$program")/quarkus"
      ;;
    script)
      folder=$(dirname "$program")
      libraries_in "${folder%/bin}/lib" "${folder%/bin}/repo"
      ;;
    war)
      # A runner for Jakarta's servlets, or for the older ones in javax.
      runner=org.eclipse.jetty.ee10:jetty-ee10-runner:12.0.14
      if uses javax.servlet; then runner=com.heroku:webapp-runner:9.0.89.0; fi
      if [ "$tool" != maven ]; then prepare_maven_for_download; fi
      bp step "Adding ${runner#*:}, which runs $program"
      maven dependency:copy "-Dartifact=$runner" "-DoutputDirectory=$PWD/$folder" || explain_maven
      libraries_in "$folder"
      ;;
  esac
  command="java \$JAVA_OPTS -jar $program"
  if [ "$kind" = war ]; then
    command="java \$JAVA_OPTS -jar $(compgen -G "$folder/*.jar") --port \$PORT $program"
  elif [ "$kind" = script ]; then
    command=$program
    if [ -d "$module/conf" ] && uses play; then
      command+=" -Dhttp.port=\$PORT -Dpidfile.path=/dev/null"
      if ! grep -rqsE '^[^#]*(secret\.key|APPLICATION_SECRET)' "$module/conf"; then
        bp trouble "Play does not start without a secret: write play.http.secret.key = \${?APPLICATION_SECRET} into conf/application.conf, and set that config var"
      fi
    fi
  fi
  if uses io.ktor && compgen -G "$module/src/main/resources/application*.*" >/dev/null; then
    command+=" -port=\$PORT"
  elif uses io.dropwizard || uses dropwizard-core; then
    dropwizard
  elif ! grep -qsE 'spring-boot|quarkus|micronaut|helidon|play' "${build_files[@]}" && [ "$kind" != war ] &&
    ! grep -rqsE '\bPORT\b' --include='*.java' --include='*.kt' --include='*.scala' --include='*.conf' --include='*.properties' --include='*.y*ml' .; then
    bp trouble "no source file reads the environment variable PORT: the app has to listen on that port, on all addresses"
  fi
}

# Sets command for Dropwizard, which takes a subcommand and a configuration file, and reads its port from there.
dropwizard() {
  local file port='server.applicationConnectors[0].port'
  file=$(grep -lsE '^(server|logging|database):' ./*.y*ml config/*.y*ml "$module"/*.y*ml | head -n 1) || true
  if [ -n "$file" ] && grep -qE '^ +type: *simple' "$file"; then port=server.connector.port; fi
  command="java \$JAVA_OPTS -Ddw.$port=\$PORT -jar $program server${file:+ ${file#./}}"
}

# $@: files and folders that the build made and the image keeps. Removes the other files of the build, and the sources, from the
# app's folder.
tidy() {
  local keep dir file
  while IFS= read -r dir; do
    dir=${dir#./}
    while IFS= read -r file; do
      file=${file#./}
      for keep in "$@"; do
        if [[ $file == "$keep" || $file == "$keep"/* || $keep == "$file"/* ]]; then continue 2; fi
      done
      rm -f "$file"
    done < <(find "$dir" \( -type f -o -type l \))
    find "$dir" -path '*/bin/*.bat' -delete
  done < <(find . \( -name node_modules -o -name src \) -prune -o -type d \( -name target -o -name build \) -print -prune)
  rm -rf .mvn .gradle .kotlin .bsp .metals mvnw mvnw.cmd gradlew gradlew.bat gradle/wrapper project/target project/build.properties
  find . \( -name pom.xml -o -name dependency-reduced-pom.xml -o -name '*.gradle' -o -name '*.gradle.kts' -o -name '*.sbt' -o -name gradle.lockfile \) -type f -delete
  # Some apps read pages and templates from src/main/resources.
  local sources='/(src/(test|main/(java|kotlin|scala|groovy))|project)/'
  if ! find . -path '*/src/main/*' -regex '.*\.\(java\|kt\|scala\)' -print0 | xargs -0r grep -qsF src/main/resources; then sources='/(src/(test|main/(java|kotlin|scala|groovy|resources))|project)/'; fi
  if [ "$kind" = war ]; then sources='/(src|project)/'; fi
  find . -path ./node_modules -prune -o -type f -print | grep -E "$sources|\.(java|kt|scala|groovy)$" | grep -vE '^\./(target|build)/|/(target|build)/.*\.(jar|war)$' |
    tr '\n' '\0' | xargs -0r rm -f
  find . -mindepth 1 -type d -empty -delete
}

# Checks that the jars in the Procfile exist. Sets kept to everything that a Procfile can name: all that the build made, except
# intermediate files.
check_procfile() {
  local file made
  while IFS= read -r file; do
    if ! compgen -G "$file" >/dev/null; then
      made=$(cut -f 4 "$work/candidates" | paste -sd ' ')
      fail "the Procfile starts $file, but the build made ${made:-no such file}: correct the Procfile, or finalName in pom.xml"
    fi
  done < <(grep -oE '(^|[ =:])(\./)?([A-Za-z0-9_.-]+/)*(target|build)/[^ :;"'\'']*\.[jw]ar' <<<"$procfile_web" | sed -E 's,^[ =:]*(\./)?,,')
  mapfile -t kept < <(
    find . -name node_modules -prune -o -type f -regex '.*/\(target\|build/libs\)/[^/]*\.[jw]ar' ! -name '*-sources.jar' ! -name '*-javadoc.jar' \
      ! -name 'original-*.jar' ! -name '*-plain.jar' ! -name '*-tests.jar' -printf '%P\n'
    for file in dependency lib libs libraries bin repo appassembler quarkus-app staging universal/stage pack install distributions; do
      find . -type d \( -path "*/target/$file" -o -path "*/build/$file" \) -printf '%P\n'
    done
    # Other paths that it names in these folders: classes, an unpacked web app.
    grep -oE '([A-Za-z0-9_.-]+/)*(target|build)/[^ :;"'\''*]+' Procfile | sed 's,/$,,' | while IFS= read -r file; do
      if [ -e "$file" ]; then echo "$file"; fi
    done
  )
  for file in "${kept[@]}"; do
    if [ -d "$file" ] && [[ $file != */classes* ]]; then libraries_in "$file"; fi
  done
}

# Removes the dates from the archives that the build made. Sets own to their checksums before that.
note_archives() {
  find . -name node_modules -prune -o -type f -regex '.*/\(target\|build/libs\|target/scala-[^/]*\|quarkus-app/\(app\|quarkus\)\|quarkus-app\)/[^/]*\.[jw]ar' -print0 >"$work/archives"
  own=" $(xargs -0r sha256sum <"$work/archives" | cut -d ' ' -f 1 | tr '\n' ' ')"
  xargs -0r python3 -I "$here/lib/jars.py" same <"$work/archives"
}

# $@: folders. Adds the libraries in them to slices, a layer of the image, except those of the app itself: they seldom change.
libraries_in() {
  local file sum
  while read -r sum file; do
    if [[ $own == *" $sum "* ]]; then
      python3 -I "$here/lib/jars.py" same "$file"
    else
      slices+=("$file")
    fi
  done < <(find "$@" -name '*.jar' -type f -print0 2>/dev/null | sort -z | xargs -0r sha256sum)
}
