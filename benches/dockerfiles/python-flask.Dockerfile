FROM paas-bench/debian:13
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv
WORKDIR /app
COPY requirements.txt .
RUN python3 -m venv /venv && /venv/bin/pip install -r requirements.txt
COPY . .
CMD /venv/bin/gunicorn --bind 0.0.0.0:$PORT app:app
