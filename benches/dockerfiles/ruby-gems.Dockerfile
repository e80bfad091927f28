FROM paas-bench/debian:13
RUN apt-get update && apt-get install -y --no-install-recommends ruby ruby-bundler
WORKDIR /app
COPY . .
RUN bundle config set --local deployment true && bundle config set --local without development:test && bundle install
CMD ["bundle", "exec", "ruby", "app.rb"]
