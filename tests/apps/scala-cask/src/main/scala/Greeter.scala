object Greeter extends cask.MainRoutes {
  override def host = "0.0.0.0"
  override def port = sys.env.get("PORT").fold(8080)(_.toInt)

  @cask.get("/")
  def hello() = "Hello from Scala 3"

  initialize()
}
