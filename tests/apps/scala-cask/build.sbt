ThisBuild / scalaVersion := "3.3.7"

lazy val root = (project in file("."))
  .settings(
    name := "greeter",
    version := "1.0",
    libraryDependencies += "com.lihaoyi" %% "cask" % "0.9.5"
  )
