# shellcheck shell=bash
# What went wrong, in one line with a remedy.

said() { it=$(bp said "$log" "$@"); }

# $1: a pattern. Shows how the log ends, unless a line that was shown says such a thing.
last_lines() {
  grep -qE "$1" "$log" || tail -n 20 "$log"
}

# What compilers say, whichever tool starts them.
explain_java() {
  local it
  if said '(?:release version|invalid (?:target|source) release:?) ([0-9.]+)'; then
    fail "the app is compiled with Java $major, and asks for $it: write java.runtime.version=$it into system.properties"
  elif said '(Source|Target) option [5-7] is no longer supported'; then
    fail "Java $major compiles for 8 and newer: raise maven.compiler.source and maven.compiler.target (or sourceCompatibility) to 8"
  elif said 'Unknown JVM target version: [0-9.]+|Unsupported class file major version [0-9]+|Unknown JVM target.*[0-9]+'; then
    if [ "$major" = 25 ]; then
      fail "a tool of the build is older than Java 25 ($it): write java.runtime.version=21 into system.properties, or take its newer version"
    fi
    fail "a tool of the build is older than Java $major ($it): take a newer version of it (the lines above say which)"
  elif grep -qE 'com\.sun\.tools\.javac\.(code|tree|util)|jdk\.compiler does not (export|open)|NoSuchFieldError.*JCTree' "$log"; then
    fail "an annotation processor is older than Java $major: raise Lombok to 1.18.30 or newer (and what else the lines above name)"
  elif said 'Java heap space|GC overhead limit exceeded|Metaspace|OutOfMemoryError'; then
    fail "the build ran out of memory ($it): give builds more (build.memory_mib), or let it do less at once"
  elif said 'package ([a-zA-Z0-9_.]+) does not exist'; then
    fail "the package $it is in no dependency: add the one that has it to the build file, and push again"
  elif grep -qE 'COMPILATION ERROR|Compilation failed|Compilation failure|error: cannot find symbol|Compilation error|Unresolved reference' "$log"; then
    fail "the app does not compile: the lines above say where; correct it and push again"
  fi
}

# Reads what Maven printed, and ends the build.
explain_maven() {
  local it
  if grep -qE 'Malformed (settings|\\?/)|Non-parseable settings' "$log"; then
    fail "settings.xml is not valid: the lines above say where; correct it and push again"
  elif said "Non-parseable POM|Unrecognised tag|Malformed POM|Duplicated tag"; then
    fail "pom.xml is not valid ($it): the lines above say where; correct it and push again"
  elif said "'dependencies.dependency.version' for ([^ ]+?):jar is missing"; then
    fail "pom.xml names $it without a version: add <version>, or the BOM that has it"
  elif said 'Blocked mirror for repositories: \[([^ ]+)'; then
    fail "the repository $it is named with http:, which Maven refuses: write https: in pom.xml"
  elif said 'Non-resolvable parent POM[^:]* for ([^ :]+:[^ :]+)' 'Non-resolvable parent POM'; then
    fail "the parent of pom.xml cannot be had ($it): correct its version, or commit it if it is yours (relativePath)"
  elif said 'status code: (401|403)' 'status: (401|403)' '(?:Not authorized|Access denied|Authentication failed|authentication failed)[^,]*'; then
    fail "a repository refuses access ($it): commit a settings.xml that reads the password from a config var, as \${env.NAME}, and set" \
      "that var for builds"
  elif said '(?:Could not find artifact|Failure to find) ([^ ]+)'; then
    fail "there is no $it in the repositories that pom.xml names: correct its name or version; if it is private, name its repository," \
      "with the access in a settings.xml"
  elif said '([^ ]+) was not found in [^ ]+ during a previous attempt'; then
    fail "there is no $it in the repositories that pom.xml names: correct its name or version"
  elif said 'Could not transfer artifact [^ ]+'; then
    fail "a repository does not answer (${it#Could not transfer artifact }): push again when it does, or take the repository out of pom.xml"
  elif said 'Detected JDK Version: ([^ ]+) .*is not in the allowed range'; then
    fail "the enforcer plugin of pom.xml refuses Java $it: widen its requireJavaVersion, or ask for Java 17, 21 or 25 in system.properties"
  elif said 'Detected Maven Version: ([^ ]+) .*is not in the allowed range' 'requires Maven version [0-9.]+'; then
    fail "pom.xml refuses this Maven ($it): commit the Maven wrapper with the one that it wants (mvn wrapper:wrapper)"
  elif said '\.git directory (?:is )?not found|dotGitDirectory'; then
    fail "a plugin wants the history of git, which builds have not ($it): set its failOnNoGitDirectory to false"
  elif said 'Could not download (?:Node.js|npm|Yarn|pnpm)[^:]*'; then
    fail "frontend-maven-plugin wants to download Node.js, and cannot: set skip for it, and let package.json's script build make the assets"
  elif said 'No plugin found for prefix .([^ ]+). '; then
    fail "there is no Maven plugin $it: correct MAVEN_CUSTOM_GOALS, or name the plugin in pom.xml"
  elif said 'requested profile "?([^ "]+)"? could not be activated'; then
    fail "there is no profile $it in pom.xml: correct MAVEN_CUSTOM_OPTS"
  elif grep -qE 'No toolchain found|Cannot find matching toolchain' "$log"; then
    fail "pom.xml asks for a toolchain that is not here: take maven-toolchains-plugin out; Java $major compiles for older ones by" \
      "maven.compiler.release"
  elif grep -qE 'There are test failures' "$log"; then
    fail "tests fail: correct them, or leave them out (take MAVEN_CUSTOM_OPTS away)"
  fi
  explain_java
  if said 'Failed to execute goal ([^ ]+)'; then
    fail "Maven's $it failed: the lines above say why; correct it and push again"
  fi
  last_lines '^\[(ERROR|FATAL)'
  fail "Maven failed: the lines above say why; correct it and push again"
}

# Reads what sbt printed, and ends the build.
explain_sbt() {
  local it
  if grep -qE 'bad constant pool index|class file .*is broken' "$log"; then
    fail "this Scala is older than Java $major: raise scalaVersion to 2.12.18, 2.13.11 or 3.3.1 at least, and push again"
  elif said 'Error downloading ([^ ;]+[^ ]*)' 'unresolved dependency: ([^ ]+)'; then
    it=$(sed -E 's/;[^:]*//' <<<"$it")
    fail "$it cannot be had from the repositories that the lines above name: correct its name or version in build.sbt or" \
      "project/plugins.sbt, name its resolver, or push again when a repository that did not answer does"
  elif said 'Not a valid (?:command|key): ([^ ]+)'; then
    fail "sbt knows no $it: correct SBT_TASKS, or add the plugin that has it to project/plugins.sbt"
  elif grep -qE '\.sbt:[0-9]+: error|\[error\] .*/(build\.sbt|project/)' "$log"; then
    fail "the build itself does not compile: the lines above say where; correct build.sbt and push again"
  elif grep -qE 'Compilation failed' "$log"; then
    fail "the app does not compile: the lines above say where; correct it and push again"
  fi
  explain_java
  last_lines '^\[error'
  fail "sbt failed: the lines above say why; correct it and push again"
}

# Reads what Gradle printed, and ends the build.
explain_gradle() {
  local it
  if said 'Plugin \[id: .([a-zA-Z0-9._-]+).,? ?[^]]*\] was not found'; then
    fail "there is no Gradle plugin $it: correct its id or version, or name its repository in pluginManagement of settings.gradle"
  elif said 'Could not find ([^ ]+:[^ ]+:[^ ]*[^ .])\.?$'; then
    fail "there is no $it in the repositories that the build names: correct its name or version, or name its repository"
  elif said 'Could not (GET|HEAD) .([^ ]+).. Received status code (401|403)'; then
    fail "a repository refuses access: let the build read its password from a config var (System.getenv), and set that var for builds"
  elif grep -qE 'matching (the )?toolchain|Cannot find a Java installation|No (matching|locally installed) toolchains|No compatible toolchains' "$log"; then
    fail "the build asks for a Java toolchain that is not here: write languageVersion = JavaLanguageVersion.of($major)"
  elif said 'Inconsistent JVM-target compatibility|jvm target compatibility should be set'; then
    fail "Kotlin and Java are compiled for different versions: write kotlin { jvmToolchain($major) } into the build file"
  elif said "Task '([^ ]+)' not found"; then
    fail "the build has no task $it: correct GRADLE_TASK, or apply the plugin that has it"
  elif said 'Could not compile (?:build|settings|initialization) (?:file|script)[^.]*' 'Script compilation errors?'; then
    fail "the build file is not valid ($it): the lines above say where; correct it and push again"
  elif said 'Could not (GET|resolve) ([^ ]+)'; then
    fail "a repository does not answer: push again when it does (the lines above say which)"
  fi
  explain_java
  said 'Execution failed for task .([^ ]+).\.' || true
  last_lines 'What went wrong'
  fail "Gradle failed${it:+ at $it}: the lines above say why; correct it and push again"
}
