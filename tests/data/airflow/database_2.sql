BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('5f2621c13b39');
CREATE TABLE connection (
	id INTEGER NOT NULL, 
	conn_id VARCHAR(250) NOT NULL, 
	conn_type VARCHAR(500) NOT NULL, 
	description VARCHAR(5000), 
	host VARCHAR(500), 
	schema VARCHAR(500), 
	login TEXT, 
	password TEXT, 
	port INTEGER, 
	is_encrypted BOOLEAN, 
	is_extra_encrypted BOOLEAN, 
	extra TEXT, 
	CONSTRAINT connection_pkey PRIMARY KEY (id), 
	CONSTRAINT connection_conn_id_uq UNIQUE (conn_id)
);
INSERT INTO "connection" VALUES(1,'shop','postgres',NULL,'db.example','shop','me','gAAAAABrAufxUN61lNrzKsODjwvAemxSAYgjQVVzVuIXJ9VwrYE0zxEwQht9fxNlQq8qpgacNJw-ljMRop98MybORusHlj5kcg==',5432,1,1,'gAAAAABrAufxHBTIZkp6j9YeMvfZiK0OmUuXkWqaJBv-3FFEPYaywsm3SnJg9fawsGx-UiRspnO9mjUDPd1ljQ_EtMNw1EK2k49OZLmR6020nHe8uVQkigA=');
INSERT INTO "connection" VALUES(2,'api','http',NULL,'https://api.example','',NULL,NULL,NULL,0,1,'gAAAAABrAufxLpw6tIsPgP9nnGvO36PmsRxU1fXUvX4ENDWl9ardCPYj8-W6-I6U2hb8yvZQlf8Pefl7nKsQHR6c3o7f-2a2bSO2IrmUqQezwFvZ0FRe3NY=');
INSERT INTO "connection" VALUES(3,'lake','aws',NULL,NULL,NULL,'AKIA','gAAAAABrAufxgUhnCa4o3U-1pUUexRAeg6PRMGoxq5_Uw2C2B97MhQ6DvXy_pyCa2yIaMsc9D1DMWEamyCRTaBtJhGJSs5rBmQ==',NULL,1,1,'gAAAAABrAufx6L_f-ZikphDSdS-4F318FLTz3GsGt4riwv84GN3u6l8fCHKV1kjt8nbxtFZMGYWRc_xlaF_jM0DTZu5sKbE3E6Lc1NXI0NXLMkAcEhIj4foxaj75CpnrJhIpSSeo0vOZmRtbHbHxAKwEtolJGVAY7w==');
INSERT INTO "connection" VALUES(4,'with.dots','ssh',NULL,'host',NULL,NULL,NULL,NULL,0,0,NULL);
CREATE TABLE dag (
	dag_id VARCHAR(250) NOT NULL, 
	root_dag_id VARCHAR(250), 
	is_paused BOOLEAN, 
	is_subdag BOOLEAN, 
	is_active BOOLEAN, 
	last_parsed_time TIMESTAMP, 
	last_pickled TIMESTAMP, 
	last_expired TIMESTAMP, 
	scheduler_lock BOOLEAN, 
	pickle_id INTEGER, 
	fileloc VARCHAR(2000), 
	processor_subdir VARCHAR(2000), 
	owners VARCHAR(2000), 
	dag_display_name VARCHAR(2000), 
	description TEXT, 
	default_view VARCHAR(25), 
	schedule_interval TEXT, 
	timetable_description VARCHAR(1000), 
	dataset_expression JSON, 
	max_active_tasks INTEGER NOT NULL, 
	max_active_runs INTEGER, 
	max_consecutive_failed_dag_runs INTEGER NOT NULL, 
	has_task_concurrency_limits BOOLEAN NOT NULL, 
	has_import_errors BOOLEAN DEFAULT '0', 
	next_dagrun TIMESTAMP, 
	next_dagrun_data_interval_start TIMESTAMP, 
	next_dagrun_data_interval_end TIMESTAMP, 
	next_dagrun_create_after TIMESTAMP, 
	CONSTRAINT dag_pkey PRIMARY KEY (dag_id)
);
INSERT INTO "dag" VALUES('by_hand',NULL,0,0,1,'2026-11-22 13:02:50.399457',NULL,NULL,NULL,NULL,'/srv/airflow/dags/nightly.py',NULL,'airflow',NULL,NULL,'grid','null','Never, external triggers only','null',16,16,0,0,0,NULL,NULL,NULL,NULL);
INSERT INTO "dag" VALUES('nightly',NULL,0,0,1,'2026-11-22 13:02:50.399734',NULL,NULL,NULL,NULL,'/srv/airflow/dags/nightly.py',NULL,'airflow',NULL,NULL,'grid','"30 1 * * *"','At 01:30','null',16,1,0,0,0,'2026-01-01 01:30:00.000000','2026-01-01 01:30:00.000000','2026-01-02 01:30:00.000000','2026-01-02 01:30:00.000000');
INSERT INTO "dag" VALUES('ticking',NULL,0,0,1,'2026-11-22 13:02:50.414618',NULL,NULL,NULL,NULL,'/srv/airflow/dags/nightly.py',NULL,'airflow',NULL,NULL,'grid','"0 * * * *"','Every hour','null',16,16,0,0,0,'2026-11-22 13:00:00.000000','2026-11-22 13:00:00.000000','2026-11-22 13:00:00.000000','2026-11-22 13:00:00.000000');
INSERT INTO "dag" VALUES('resting',NULL,1,0,1,'2026-11-22 13:02:50.413668',NULL,NULL,NULL,NULL,'/srv/airflow/dags/nightly.py',NULL,'airflow',NULL,NULL,'grid','{"type": "timedelta", "attrs": {"days": 1, "seconds": 0, "microseconds": 0}}','','null',16,16,0,0,0,'2026-11-21 00:00:00.000000','2026-11-21 00:00:00.000000','2026-11-22 00:00:00.000000','2026-11-22 00:00:00.000000');
CREATE TABLE dag_run (
	id INTEGER NOT NULL, 
	dag_id VARCHAR(250) NOT NULL, 
	queued_at TIMESTAMP, 
	execution_date TIMESTAMP NOT NULL, 
	start_date TIMESTAMP, 
	end_date TIMESTAMP, 
	state VARCHAR(50), 
	run_id VARCHAR(250) NOT NULL, 
	creating_job_id INTEGER, 
	external_trigger BOOLEAN, 
	run_type VARCHAR(50) NOT NULL, 
	conf BLOB, 
	data_interval_start TIMESTAMP, 
	data_interval_end TIMESTAMP, 
	last_scheduling_decision TIMESTAMP, 
	dag_hash VARCHAR(32), 
	log_template_id INTEGER, 
	updated_at TIMESTAMP, 
	clear_number INTEGER DEFAULT '0' NOT NULL, 
	CONSTRAINT dag_run_pkey PRIMARY KEY (id), 
	CONSTRAINT dag_run_dag_id_execution_date_key UNIQUE (dag_id, execution_date), 
	CONSTRAINT dag_run_dag_id_run_id_key UNIQUE (dag_id, run_id), 
	CONSTRAINT task_instance_log_template_id_fkey FOREIGN KEY(log_template_id) REFERENCES log_template (id) ON DELETE NO ACTION
);
INSERT INTO "dag_run" VALUES(1,'nightly',NULL,'2026-01-10 01:30:00.000000','2026-01-11 01:31:00.000000','2026-01-11 01:33:00.000000','success','scheduled__2026-01-10T01:30:00+00:00',NULL,0,'scheduled',X'80057D942E','2026-01-10 01:30:00.000000','2026-01-11 01:30:00.000000',NULL,NULL,1,'2026-11-22 13:02:50.594749',0);
INSERT INTO "dag_run" VALUES(2,'nightly',NULL,'2026-01-11 01:30:00.000000','2026-01-12 01:31:00.000000','2026-01-12 01:33:00.000000','failed','scheduled__2026-01-11T01:30:00+00:00',NULL,0,'scheduled',X'80057D942E','2026-01-11 01:30:00.000000','2026-01-12 01:30:00.000000',NULL,NULL,1,'2026-11-22 13:02:50.737202',0);
INSERT INTO "dag_run" VALUES(3,'nightly',NULL,'2026-01-12 01:30:00.000000','2026-01-13 01:31:00.000000','2026-01-13 01:33:00.000000','success','scheduled__2026-01-12T01:30:00+00:00',NULL,0,'scheduled',X'80057D942E','2026-01-12 01:30:00.000000','2026-01-13 01:30:00.000000',NULL,NULL,1,'2026-11-22 13:02:50.918553',0);
INSERT INTO "dag_run" VALUES(4,'nightly',NULL,'2026-01-13 01:30:00.000000','2026-01-14 01:31:00.000000','2026-01-14 01:33:00.000000','success','scheduled__2026-01-13T01:30:00+00:00',NULL,0,'scheduled',X'80057D942E','2026-01-13 01:30:00.000000','2026-01-14 01:30:00.000000',NULL,NULL,1,'2026-11-22 13:02:51.050873',0);
INSERT INTO "dag_run" VALUES(5,'nightly',NULL,'2026-01-14 01:30:00.000000','2026-01-15 01:31:00.000000',NULL,'running','scheduled__2026-01-14T01:30:00+00:00',NULL,0,'scheduled',X'80057D942E','2026-01-14 01:30:00.000000','2026-01-15 01:30:00.000000',NULL,NULL,1,'2026-11-22 13:02:51.150189',0);
INSERT INTO "dag_run" VALUES(6,'nightly',NULL,'2026-01-13 06:30:00.000000','2026-01-13 06:31:00.000000','2026-01-13 06:33:00.000000','success','manual__2026-01-13T06:30:00+00:00',NULL,1,'manual',X'80057D942E','2026-01-13 06:30:00.000000','2026-01-13 06:30:00.000000',NULL,NULL,1,'2026-11-22 13:02:51.217015',0);
INSERT INTO "dag_run" VALUES(7,'ticking',NULL,'2026-01-14 12:00:00.000000','2026-01-14 12:01:00.000000','2026-01-14 12:03:00.000000','success','scheduled__2026-01-14T12:00:00+00:00',NULL,0,'scheduled',X'80057D942E','2026-01-14 12:00:00.000000','2026-01-14 12:00:00.000000',NULL,NULL,1,'2026-11-22 13:02:51.277332',0);
INSERT INTO "dag_run" VALUES(8,'ticking',NULL,'2026-01-14 13:00:00.000000','2026-01-14 13:01:00.000000','2026-01-14 13:03:00.000000','success','scheduled__2026-01-14T13:00:00+00:00',NULL,0,'scheduled',X'80057D942E','2026-01-14 13:00:00.000000','2026-01-14 13:00:00.000000',NULL,NULL,1,'2026-11-22 13:02:51.330004',0);
CREATE TABLE slot_pool (
	id INTEGER NOT NULL, 
	pool VARCHAR(256), 
	slots INTEGER, 
	description TEXT, 
	include_deferred BOOLEAN NOT NULL, 
	CONSTRAINT slot_pool_pkey PRIMARY KEY (id), 
	CONSTRAINT slot_pool_pool_uq UNIQUE (pool)
);
INSERT INTO "slot_pool" VALUES(1,'default_pool',128,'Default pool',0);
INSERT INTO "slot_pool" VALUES(2,'reports',4,'',0);
CREATE TABLE task_instance (
	task_id VARCHAR(250) NOT NULL, 
	dag_id VARCHAR(250) NOT NULL, 
	run_id VARCHAR(250) NOT NULL, 
	map_index INTEGER DEFAULT -1 NOT NULL, 
	start_date TIMESTAMP, 
	end_date TIMESTAMP, 
	duration FLOAT, 
	state VARCHAR(20), 
	try_number INTEGER, 
	max_tries INTEGER DEFAULT -1, 
	hostname VARCHAR(1000), 
	unixname VARCHAR(1000), 
	job_id INTEGER, 
	pool VARCHAR(256) NOT NULL, 
	pool_slots INTEGER NOT NULL, 
	queue VARCHAR(256), 
	priority_weight INTEGER, 
	operator VARCHAR(1000), 
	custom_operator_name VARCHAR(1000), 
	queued_dttm TIMESTAMP, 
	queued_by_job_id INTEGER, 
	pid INTEGER, 
	executor VARCHAR(1000), 
	executor_config BLOB, 
	updated_at TIMESTAMP, 
	rendered_map_index VARCHAR(250), 
	external_executor_id VARCHAR(250), 
	trigger_id INTEGER, 
	trigger_timeout DATETIME, 
	next_method VARCHAR(1000), 
	next_kwargs JSON, 
	task_display_name VARCHAR(2000), 
	CONSTRAINT task_instance_pkey PRIMARY KEY (dag_id, task_id, run_id, map_index), 
	CONSTRAINT task_instance_trigger_id_fkey FOREIGN KEY(trigger_id) REFERENCES "trigger" (id) ON DELETE CASCADE, 
	CONSTRAINT task_instance_dag_run_fkey FOREIGN KEY(dag_id, run_id) REFERENCES dag_run (dag_id, run_id) ON DELETE CASCADE
);
INSERT INTO "task_instance" VALUES('load','nightly','scheduled__2026-01-10T01:30:00+00:00',-1,'2026-01-11 01:31:30.000000','2026-01-11 01:33:00.000000',NULL,'success',1,0,'','me',NULL,'reports',1,'default',2,'BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:02:50.596895',NULL,NULL,NULL,NULL,NULL,NULL,'load');
INSERT INTO "task_instance" VALUES('tell','nightly','scheduled__2026-01-10T01:30:00+00:00',-1,'2026-01-11 01:31:30.000000','2026-01-11 01:33:00.000000',NULL,'success',1,0,'','me',NULL,'default_pool',1,'default',1,'BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:02:50.596905',NULL,NULL,NULL,NULL,NULL,NULL,'tell');
INSERT INTO "task_instance" VALUES('load','nightly','scheduled__2026-01-11T01:30:00+00:00',-1,'2026-01-12 01:31:30.000000','2026-01-12 01:33:00.000000',NULL,'success',1,0,'','me',NULL,'reports',1,'default',2,'BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:02:50.754058',NULL,NULL,NULL,NULL,NULL,NULL,'load');
INSERT INTO "task_instance" VALUES('tell','nightly','scheduled__2026-01-11T01:30:00+00:00',-1,'2026-01-12 01:31:30.000000','2026-01-12 01:33:00.000000',NULL,'failed',1,0,'','me',NULL,'default_pool',1,'default',1,'BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:02:50.754070',NULL,NULL,NULL,NULL,NULL,NULL,'tell');
INSERT INTO "task_instance" VALUES('load','nightly','scheduled__2026-01-12T01:30:00+00:00',-1,'2026-01-13 01:31:30.000000','2026-01-13 01:33:00.000000',NULL,'success',1,0,'','me',NULL,'reports',1,'default',2,'BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:02:50.919182',NULL,NULL,NULL,NULL,NULL,NULL,'load');
INSERT INTO "task_instance" VALUES('tell','nightly','scheduled__2026-01-12T01:30:00+00:00',-1,'2026-01-13 01:31:30.000000','2026-01-13 01:33:00.000000',NULL,'success',1,0,'','me',NULL,'default_pool',1,'default',1,'BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:02:50.919189',NULL,NULL,NULL,NULL,NULL,NULL,'tell');
INSERT INTO "task_instance" VALUES('load','nightly','scheduled__2026-01-13T01:30:00+00:00',-1,'2026-01-14 01:31:30.000000','2026-01-14 01:33:00.000000',NULL,'success',1,0,'','me',NULL,'reports',1,'default',2,'BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:02:51.051331',NULL,NULL,NULL,NULL,NULL,NULL,'load');
INSERT INTO "task_instance" VALUES('tell','nightly','scheduled__2026-01-13T01:30:00+00:00',-1,'2026-01-14 01:31:30.000000','2026-01-14 01:33:00.000000',NULL,'success',1,0,'','me',NULL,'default_pool',1,'default',1,'BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:02:51.051336',NULL,NULL,NULL,NULL,NULL,NULL,'tell');
INSERT INTO "task_instance" VALUES('load','nightly','scheduled__2026-01-14T01:30:00+00:00',-1,NULL,NULL,NULL,NULL,1,0,'','me',NULL,'reports',1,'default',2,'BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:02:51.162793',NULL,NULL,NULL,NULL,NULL,NULL,'load');
INSERT INTO "task_instance" VALUES('tell','nightly','scheduled__2026-01-14T01:30:00+00:00',-1,NULL,NULL,NULL,NULL,1,0,'','me',NULL,'default_pool',1,'default',1,'BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:02:51.162804',NULL,NULL,NULL,NULL,NULL,NULL,'tell');
INSERT INTO "task_instance" VALUES('load','nightly','manual__2026-01-13T06:30:00+00:00',-1,'2026-01-13 06:31:30.000000','2026-01-13 06:33:00.000000',NULL,'success',1,0,'','me',NULL,'reports',1,'default',2,'BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:02:51.225799',NULL,NULL,NULL,NULL,NULL,NULL,'load');
INSERT INTO "task_instance" VALUES('tell','nightly','manual__2026-01-13T06:30:00+00:00',-1,'2026-01-13 06:31:30.000000','2026-01-13 06:33:00.000000',NULL,'success',1,0,'','me',NULL,'default_pool',1,'default',1,'BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:02:51.225810',NULL,NULL,NULL,NULL,NULL,NULL,'tell');
INSERT INTO "task_instance" VALUES('tick','ticking','scheduled__2026-01-14T12:00:00+00:00',-1,'2026-01-14 12:01:30.000000','2026-01-14 12:03:00.000000',NULL,'success',1,0,'','me',NULL,'default_pool',1,'default',1,'BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:02:51.278772',NULL,NULL,NULL,NULL,NULL,NULL,'tick');
INSERT INTO "task_instance" VALUES('tick','ticking','scheduled__2026-01-14T13:00:00+00:00',-1,'2026-01-14 13:01:30.000000','2026-01-14 13:03:00.000000',NULL,'success',1,0,'','me',NULL,'default_pool',1,'default',1,'BashOperator',NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-22 13:02:51.330733',NULL,NULL,NULL,NULL,NULL,NULL,'tick');
CREATE TABLE variable (
	id INTEGER NOT NULL, 
	"key" VARCHAR(250), 
	val TEXT, 
	description TEXT, 
	is_encrypted BOOLEAN, 
	CONSTRAINT variable_pkey PRIMARY KEY (id), 
	CONSTRAINT variable_key_uq UNIQUE ("key")
);
INSERT INTO "variable" VALUES(1,'region','gAAAAABrAufxbYXubzu4ESLwfwM9TDG8Ob_jfADvum-ZONITScNmwETgGLAxtZQ-y-HOdpwAQR2Nfhuq6cvV4upjH9i6hGHD9Q==',NULL,1);
INSERT INTO "variable" VALUES(2,'api_token','gAAAAABrAufxSZx0TqiQV4MRpeSHfqdmdm71bYZYcusobiopYBZleHvOnzW0_5feeC6doqsFmqoNRi2H5wjquDhjRNxXgb3eyA==',NULL,1);
INSERT INTO "variable" VALUES(3,'options','gAAAAABrAufxaTZ-ysWvqPmBvkbraSX6-bn7fc7kC-8A4x8qAhe3a17-Z5o-EGg_SNCRDy2TF08TiLwEW2GX7iD2sSTeGIOt7Ge8ch_zLDagi5qV8bjyyz4=',NULL,1);
INSERT INTO "variable" VALUES(4,'nothing','gAAAAABrAufxbM3xgwrm0e7tzqoFrDbWSUm1gQgw5rYCelv2sgA2GR2AlTqH0RhGXCNMamoOI3-EYBsuySULjIHmGsPE8FMkag==',NULL,1);
COMMIT;
