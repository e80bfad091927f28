Gem::Specification.new do |spec|
  spec.name = "phrases"
  spec.version = "0.1.0"
  spec.summary = "What is said"
  spec.authors = ["The authors of paas"]
  spec.files = ["lib/phrases.rb"]
end
